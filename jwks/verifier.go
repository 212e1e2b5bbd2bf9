package jwks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Source gives keys to a Verifier. It is a *Set, which never changes, or a *Remote, which is
// kept up to date.
type Source interface {
	// current returns the set to use now.
	current(ctx context.Context) (*Set, error)
	// refresh is called when a kid is not in set. It may fetch a newer set, and returns set
	// itself if it does not.
	refresh(ctx context.Context, set *Set) (*Set, error)
	// belongsTo returns an error if the keys are known to be those of another issuer.
	belongsTo(issuer string) error
}

// A VerifierConfig is what a service requires of a token, and the keys to check it with.
// Issuer, Audience, Algorithms and Keys are required: if an empty field skipped a check, a
// forgotten setting would skip it too.
type VerifierConfig struct {
	Issuer     string        // exactly as the issuer writes it
	Audience   string        // the one name of this service
	Algorithms []string      // of Algorithms; EdDSA is also called "Ed25519"
	Leeway     time.Duration // allowed clock difference for exp, nbf and iat; 0 to 1 min

	// Type is the typ of the tokens: TypeAccessToken, which "" means, or TypeJWT, if the audience has that
	// type. OldType is accepted as well: give the earlier type while the issuer changes it, until the last
	// token of that type has expired.
	Type, OldType string

	Keys Source // a *Remote or a *Set

	// Cache is how many verified tokens are cached, so that their signatures are not verified
	// again; 0 caches none. A cached token still expires, and it is verified again as soon as
	// its key is no longer in Keys or another key has the same kid. An entry costs about twice
	// the length of its token, and at most 12 KiB: a token of over 4 KiB, or for more than 16
	// audiences, is not cached.
	Cache int
}

// A Verifier checks access tokens (RFC 9068, section 4) for one service. It is safe for
// concurrent use.
type Verifier struct {
	want  Expectation
	keys  Source
	cache *cache // nil if nothing is cached
}

// NewVerifier returns a Verifier. Its error is ErrConfig for a configuration that would skip a
// check.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	v := &Verifier{want: Expectation{c.Issuer, c.Audience, slices.Clone(c.Algorithms), c.Leeway, c.Type, c.OldType}, keys: c.Keys}
	if err := v.want.check(); err != nil {
		return nil, err
	}
	if c.Keys == nil {
		return nil, fmt.Errorf("%w: no keys", ErrConfig)
	}
	if err := c.Keys.belongsTo(c.Issuer); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if c.Cache < 0 {
		return nil, fmt.Errorf("%w: a cache of %d tokens", ErrConfig, c.Cache)
	}
	if c.Cache > 0 {
		v.cache = newCache(c.Cache)
	}
	return v, nil
}

// Verify checks a token at the current time and returns its claims. The caller may change
// them. Its errors are the Failures of Check, and ErrUnavailable if there are no keys or ctx
// ended while it waited for them.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	if v.cache == nil || len(token) > maxCachedToken {
		claims, _, err := v.verify(ctx, token)
		return claims, err
	}
	hash := hashToken(token)
	if known := v.cache.get(hash); known != nil {
		claims, err := v.recheck(ctx, known)
		if claims != nil || err != nil {
			return claims, err
		}
	}
	claims, key, err := v.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	if len(claims.Audience) <= maxCachedAudiences {
		v.cache.put(hash, &entry{claims.clone(), key})
	}
	return claims, nil
}

// recheck returns the claims of a cached token if it is still valid: its key is still in the
// set, and it has not expired. It returns neither claims nor an error if the key is not in the
// set, and the token must be verified again.
func (v *Verifier) recheck(ctx context.Context, known *entry) (*Claims, error) {
	set, err := v.keys.current(ctx)
	if err != nil || !known.trustedBy(set) {
		return nil, err
	}
	if err := known.claims.checkTime(v.want.Leeway, time.Now()); err != nil {
		return nil, err
	}
	return known.claims.clone(), nil
}

// verify verifies a token without the cache. It also returns the key that signed it.
func (v *Verifier) verify(ctx context.Context, token string) (*Claims, Key, error) {
	t, err := parseToken(token, &v.want)
	if err != nil {
		return nil, Key{}, err
	}
	key, err := v.key(ctx, t.header)
	if err != nil {
		return nil, Key{}, err
	}
	claims, err := t.verify(key, v.want, time.Now())
	return claims, key, err
}

// key returns the key that h names. It looks for a newer set only if the kid is unknown. If
// it did so for a wrong signature too, any client could cause a fetch.
func (v *Verifier) key(ctx context.Context, h header) (Key, error) {
	set, err := v.keys.current(ctx)
	if err != nil {
		return Key{}, err
	}
	key, err := h.key(set)
	if !errors.Is(err, ErrUnknownKey) {
		return key, err
	}
	newer, missing := v.keys.refresh(ctx, set)
	if missing != nil {
		return Key{}, missing
	}
	if newer != set {
		key, err = h.key(newer)
	}
	return key, err
}

// Issuer returns the issuer that v accepts.
func (v *Verifier) Issuer() string { return v.want.Issuer }

// Audience returns the audience that v accepts.
func (v *Verifier) Audience() string { return v.want.Audience }

// Leeway returns the clock difference that v allows.
func (v *Verifier) Leeway() time.Duration { return v.want.Leeway }

func (s *Set) current(context.Context) (*Set, error)             { return s, nil }
func (s *Set) refresh(_ context.Context, set *Set) (*Set, error) { return set, nil }
func (s *Set) belongsTo(string) error {
	if s == nil {
		return errors.New("no key set")
	}
	return nil
}
