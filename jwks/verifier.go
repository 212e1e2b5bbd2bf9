package jwks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Source is where a Verifier finds keys: a *Set, which never changes, or a *Remote,
// which follows its issuer.
type Source interface {
	// current returns the set to trust now.
	current(ctx context.Context) (*Set, error)
	// missed is asked after a kid was not in set; it may look for a newer one, and
	// returns set itself where it may not.
	missed(ctx context.Context, set *Set) (*Set, error)
	// belongsTo refuses an issuer whose keys these are known not to be.
	belongsTo(issuer string) error
}

// A VerifierConfig says what a service demands of a token. Issuer, Audience, Algorithms
// and Keys must all be given: a check that an empty field skips is a check that a
// forgotten setting skips.
type VerifierConfig struct {
	Issuer     string        // exactly as the issuer writes it
	Audience   string        // the one name of this service
	Algorithms []string      // of "RS256" and "EdDSA", which is also called "Ed25519"
	Leeway     time.Duration // for exp, nbf and iat; 0 to 1 min

	Keys Source // a *Remote or a *Set

	// Cache is how many verified tokens are remembered, so that the same one is not
	// verified again; 0 remembers none. A remembered token still expires, and dies with
	// its key: as soon as that is not in Keys any more, or is another under the same kid.
	// An entry costs about twice its token, and 12 KiB at the very most: a token of over
	// 4 KiB, or for more than 16 audiences, is verified each time.
	Cache int
}

// A Verifier checks access tokens (RFC 9068, section 4) for one service. It may be used
// by many goroutines.
type Verifier struct {
	want  Expectation
	keys  Source
	cache *cache // nil remembers nothing
}

// NewVerifier refuses a configuration that would let a check be skipped, with an
// ErrConfig.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	v := &Verifier{want: Expectation{c.Issuer, c.Audience, slices.Clone(c.Algorithms), c.Leeway}, keys: c.Keys}
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

// Verify checks a token as of now and returns its claims, which are the caller's own. Its
// errors are those of Check, and ErrUnavailable where there are no keys to check with, or
// ctx ended while they were waited for.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	if v.cache == nil || len(token) > maxRemembered {
		claims, _, err := v.verify(ctx, token)
		return claims, err
	}
	hash := hashToken(token)
	if known := v.cache.get(hash); known != nil {
		claims, err := v.recall(ctx, known)
		if claims != nil || err != nil {
			return claims, err
		}
	}
	claims, key, err := v.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	if len(claims.Audience) <= maxAudiences {
		v.cache.put(hash, &remembered{claims.clone(), key})
	}
	return claims, nil
}

// recall returns the claims of a token that was good if nothing has changed that since:
// there are keys to trust, its own among them, and its time has not come. If its key is
// not, it returns nothing at all, and the token must be looked at again.
func (v *Verifier) recall(ctx context.Context, known *remembered) (*Claims, error) {
	set, err := v.keys.current(ctx)
	if err != nil || !known.trustedBy(set) {
		return nil, err
	}
	if err := known.claims.checkTime(v.want.Leeway, time.Now()); err != nil {
		return nil, err
	}
	return known.claims.clone(), nil
}

// verify also returns the key that signed.
func (v *Verifier) verify(ctx context.Context, token string) (*Claims, Key, error) {
	t, err := parseToken(token, v.want.Algorithms)
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

// key finds the key that h names. Only a kid that nobody knows is a reason to look for a
// newer set: were a wrong signature one, every stranger could make us fetch.
func (v *Verifier) key(ctx context.Context, h header) (Key, error) {
	set, err := v.keys.current(ctx)
	if err != nil {
		return Key{}, err
	}
	key, err := h.key(set)
	if !errors.Is(err, ErrUnknownKey) {
		return key, err
	}
	newer, missing := v.keys.missed(ctx, set)
	if missing != nil {
		return Key{}, missing
	}
	if newer != set {
		key, err = h.key(newer)
	}
	return key, err
}

// Issuer, Audience and Leeway are what v was made with.
func (v *Verifier) Issuer() string        { return v.want.Issuer }
func (v *Verifier) Audience() string      { return v.want.Audience }
func (v *Verifier) Leeway() time.Duration { return v.want.Leeway }

func (s *Set) current(context.Context) (*Set, error)            { return s, nil }
func (s *Set) missed(_ context.Context, set *Set) (*Set, error) { return set, nil }
func (s *Set) belongsTo(string) error {
	if s == nil {
		return errors.New("no key set")
	}
	return nil
}
