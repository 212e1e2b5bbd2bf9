package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/audience"
	"keymill/issuer/profile"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
)

// ErrAdminAudience is the error for a store of an earlier version that has an audience with the name of the
// built-in one.
var ErrAdminAudience = errors.New("the store has an audience " + adminscope.Audience + ", which is now the name of the admin API")

// CheckAdminAudience returns ErrAdminAudience if the store has such an audience.
func CheckAdminAudience(ctx context.Context, s storage.Store) error {
	return s.View(ctx, func(r storage.Reader) error {
		switch _, err := r.Get(audience.Key(adminscope.Audience)); {
		case err == nil:
			return ErrAdminAudience
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
		return nil
	})
}

// openAdmin prepares the built-in audience. If its tokens are accepted here, keys are kept as long as for
// any other audience of its lifetime.
func (i *Issuer) openAdmin(ctx context.Context, accepted bool) error {
	if err := CheckAdminAudience(ctx, i.store); err != nil {
		return err
	}
	alg := i.Algorithms()[0]
	if slices.Contains(i.Algorithms(), jwks.EdDSA) {
		alg = jwks.EdDSA
	}
	i.admin = &audienceRecord{Alg: alg, TTL: int64(adminscope.Lifetime / time.Second), Scopes: adminscope.Names(), Profile: profile.RFC9068}
	i.adminTokens = accesstoken.NewVerifier(i.url)
	if i.adminAccepted = accepted; !accepted {
		return nil
	}
	err := i.store.Update(ctx, func(tx storage.Tx) error { return i.keys.RaiseMaxLifetime(tx, alg, i.admin.Lifetime()) })
	if err != nil {
		return fmt.Errorf("keep keys for tokens of audience %s: %w", adminscope.Audience, err)
	}
	return i.keys.Reload(ctx)
}

// builtIn returns the record of the built-in audience, nil if name is that of another one.
func (i *Issuer) builtIn(name string) *audienceRecord {
	if name != adminscope.Audience {
		return nil
	}
	return i.admin
}

// errBuiltIn refuses a change of the built-in audience.
func errBuiltIn(code string) error {
	return refusal.New(code, "audience %s is built in: it cannot be added, changed or removed", adminscope.Audience)
}

// insertBuiltIn adds the built-in audience to a page of the list, in its place by name.
func (i *Issuer) insertBuiltIn(page []api.Audience, after string, limit int) []api.Audience {
	full := len(page) == limit
	if !i.adminAccepted || after >= adminscope.Audience || limit == 0 || full && page[limit-1].Name < adminscope.Audience {
		return page
	}
	n, _ := slices.BinarySearchFunc(page, adminscope.Audience, func(a api.Audience, name string) int { return strings.Compare(a.Name, name) })
	page = slices.Insert(page, n, i.admin.Show(adminscope.Audience))
	return page[:min(len(page), limit)]
}

// ErrAdminToken is the error for a token that the admin API does not accept.
var ErrAdminToken = refusal.Because("invalid_token", "not a valid access token for the admin API")

// errOtherKey says in the log why a token of this server is not one for the admin API.
var errOtherKey = errors.New("it is signed by a key that was imported, or of another algorithm: keymill key list shows which key signs")

// AdminToken returns the client of an access token for the admin API, and the scopes that both the token and
// the client have at this moment, sorted. ErrAdminToken means that the token is not valid; any other error is a fault.
//
// Keys that were imported are not asked: the system that they come from may have them still, and its tokens
// must not administrate this server.
func (i *Issuer) AdminToken(ctx context.Context, token refusal.Secret) (client string, scopes []string, err error) {
	keys := slices.DeleteFunc(slices.Clone(i.keys.Published()), func(k keystore.PublicKey) bool { return k.Imported || k.Alg != i.admin.Alg })
	t, err := i.adminTokens.Verify(string(token), keys, i.keys.WallTime())
	if errors.Is(err, accesstoken.ErrInvalid) {
		if _, other := i.verifyOwn(token); other == nil {
			err = errOtherKey
		}
		return "", nil, fmt.Errorf("%w: %w", ErrAdminToken, err)
	} else if err != nil {
		return "", nil, err
	}
	if t.Audience != adminscope.Audience || t.HasSession() || t.Subject != t.Client {
		return "", nil, ErrAdminToken
	}
	now := i.keys.Now()
	err = i.store.View(ctx, func(r storage.Reader) error {
		active, err := i.active(r, t, now)
		if err != nil {
			return err
		}
		if !active {
			return ErrAdminToken
		}
		rec, err := i.findClient(r, t.Client) // active has found it
		if err != nil {
			return err
		}
		if !slices.Contains(rec.Audiences, adminscope.Audience) || !slices.Contains(rec.Grants, "client_credentials") {
			return ErrAdminToken
		}
		scopes = slices.DeleteFunc(record.Distinct(strings.Fields(t.Scope)), func(s string) bool {
			return !slices.Contains(rec.Scopes, s) || !slices.Contains(i.admin.Scopes, s)
		})
		return nil
	})
	return t.Client, scopes, err
}
