package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keymill/issuer/audience"
	"keymill/jwks"
	"keymill/storage"
)

// A use is what a token is for.
type use byte

const (
	accessToken use = iota + 1
	idToken         // OpenID Connect Core, section 2. No grant makes one yet
)

// A mintable is a token that has no signature yet.
type mintable struct {
	use      use
	audience string          // aud
	record   *audienceRecord // of the audience of an access token
	alg      string
	payload  []byte
	expires  time.Time // exp
}

// errNotAlsoForIDs is the error for an ID token that a service could take for an access token.
var errNotAlsoForIDs = errors.New("no ID token can have that audience, because its access tokens have the type " + jwks.TypeJWT)

// mint signs a token. Nothing else of this package may sign, and a test looks for what does.
//
// Services tell access tokens from ID tokens by the type (RFC 9068, section 2.1). An audience of the type JWT
// has given that up for software that knows no other type. So no ID token may have the audience, as long as
// one of its services may accept the type JWT.
func (i *Issuer) mint(ctx context.Context, m mintable) (string, error) {
	if m.use == accessToken {
		return i.keys.Sign(ctx, m.alg, m.record.Type(), m.payload, m.expires)
	}
	err := i.store.View(ctx, func(r storage.Reader) error {
		rec, err := i.audienceOf(r, m.audience)
		if err == nil && rec != nil && rec.Accepts(jwks.TypeJWT, i.keys.WallTime()) {
			err = errNotAlsoForIDs
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("ID token for %s: %w", m.audience, err)
	}
	return i.keys.Sign(ctx, m.alg, jwks.TypeJWT, m.payload, m.expires)
}

// audienceOf returns the record of an audience, nil if it does not exist. The caller must not change it.
func (i *Issuer) audienceOf(r storage.Reader, name string) (*audienceRecord, error) {
	if rec := i.builtIn(name); rec != nil {
		return rec, nil
	}
	key := audience.Key(name)
	if storage.CheckKey(key) != nil {
		return nil, nil // aud of a token, which another program can have made
	}
	raw, err := r.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return i.audiences.Read(key, raw, (*audienceRecord).Possible)
}
