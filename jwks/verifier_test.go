package jwks

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A changingSource has a set that can be replaced, like a Remote. It counts calls.
type changingSource struct {
	mu              sync.Mutex // guards the fields below
	set             *Set
	newer           *Set // result of refresh; nil if there is no newer set
	err             error
	asked, searches int
}

func (c *changingSource) current(context.Context) (*Set, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.set, c.err
}

func (c *changingSource) refresh(_ context.Context, set *Set) (*Set, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.searches++
	if c.newer == nil || c.err != nil {
		return set, c.err
	}
	c.set = c.newer
	return c.set, nil
}

func (c *changingSource) belongsTo(issuer string) error {
	if issuer != wanted().Issuer {
		return errors.New("the keys are another's")
	}
	return nil
}

func (c *changingSource) publish(set *Set, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set, c.err = set, err
}

// livePayload returns a payload that is valid for decades around now.
func livePayload(pairs ...string) string {
	return payload(append([]string{"exp", "4102444800", "iat", "1700000000"}, pairs...)...)
}

func newVerifier(t testing.TB, keys Source, entries int) *Verifier {
	t.Helper()
	return mustVerifier(t, func(c *VerifierConfig) { c.Keys, c.Cache = keys, entries })
}

// oneSentinel fails unless errors.Is finds exactly one of the errors of this package.
func oneSentinel(t testing.TB, err error) {
	t.Helper()
	var found []error
	for _, s := range []error{
		ErrConfig, ErrMalformed, ErrHeader, ErrType, ErrAlgorithm, ErrUnknownKey, ErrSignature,
		ErrClaims, ErrIssuer, ErrAudience, ErrExpired, ErrNotYet, ErrScope, ErrUnavailable,
	} {
		if errors.Is(err, s) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Errorf("%q is %d of the errors: %q", err, len(found), found)
	}
}

// TestOnlyAnUnknownKidAsksForNewerKeys: no other fault of a token causes a fetch.
func TestOnlyAnUnknownKidAsksForNewerKeys(t *testing.T) {
	for _, entries := range []int{0, 10} {
		keys := &changingSource{set: mustSet(t, edKey("ed"), rsaKey("rsa"))}
		v := newVerifier(t, keys, entries)
		good := sign(edHeader(""), livePayload())
		for _, row := range changes() {
			before := keys.searches
			_, err := v.Verify(t.Context(), row.apply(good))
			asked := keys.searches - before
			want := 0
			if errors.Is(err, ErrUnknownKey) && !strings.Contains(err.Error(), "no kid") {
				want = 1
			}
			if asked != want {
				t.Errorf("%s: asked %d times for newer keys, want %d (%v)", row.rule, asked, want, err)
			}
		}
	}
}

// TestAMalformedTokenNeedsNoKeys: it is refused without waiting for the first set.
func TestAMalformedTokenNeedsNoKeys(t *testing.T) {
	keys := &changingSource{err: ErrUnavailable}
	v := newVerifier(t, keys, 10)
	for _, token := range []string{
		"", "..", strings.Repeat("a", maxTokenBytes+1), sign(edHeader(`,"crit":[]`), livePayload()),
		sign(`{"alg":"none","kid":"ed","typ":"at+jwt"}`, livePayload()), sign(`{"alg":"EdDSA","kid":"ed","typ":"JWT"}`, livePayload()),
		sign(`{"alg":"EdDSA","kid":"`+strings.Repeat("k", 257)+`","typ":"at+jwt"}`, livePayload()),
	} {
		if _, err := v.Verify(t.Context(), token); err == nil || errors.Is(err, ErrUnavailable) || keys.asked+keys.searches > 0 {
			t.Errorf("%.60s: %v, asked %d and %d times", token, err, keys.asked, keys.searches)
		}
	}
	if _, err := v.Verify(t.Context(), sign(edHeader(""), livePayload())); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a valid token without keys: %v", err)
	}
}

func TestANewerSetIsUsedAtOnce(t *testing.T) {
	keys := &changingSource{set: mustSet(t, rsaKey("rsa")), newer: mustSet(t, edKey("ed"))}
	v := newVerifier(t, keys, 0)
	if _, err := v.Verify(t.Context(), sign(edHeader(""), livePayload())); err != nil || keys.searches != 1 {
		t.Errorf("%v, asked %d times", err, keys.searches)
	}
	keys = &changingSource{set: mustSet(t, rsaKey("rsa")), newer: mustSet(t, rsaKey("ed"))}
	if _, err := newVerifier(t, keys, 0).Verify(t.Context(), sign(edHeader(""), livePayload())); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("with the kid of another key: %v", err)
	}
}

// TestKeysComeFromTheConfiguredIssuer and neither from the token nor from another issuer.
//
// R93.
func TestKeysComeFromTheConfiguredIssuer(t *testing.T) {
	c := VerifierConfig{Issuer: "https://other.example", Audience: "orders", Algorithms: []string{EdDSA}, Keys: &changingSource{set: mustSet(t, edKey("ed"))}}
	if _, err := NewVerifier(c); !errors.Is(err, ErrConfig) {
		t.Errorf("another issuer's keys: %v", err)
	}
	keys := &changingSource{set: mustSet(t, edKey("ed"))}
	v := newVerifier(t, keys, 0)
	jwk := onlyJWK(t, Key{"ed", EdDSA, attackersKey().Public()})
	for name, header := range map[string]string{
		"jwk": edHeader(`,"jwk":` + jwk),
		"jku": edHeader(`,"jku":"http://127.0.0.1:1/keys"`),
		"x5u": edHeader(`,"x5u":"http://127.0.0.1:1/keys"`),
		"x5c": edHeader(`,"x5c":["AAAA"]`),
	} {
		signed := encode(header) + "." + encode(livePayload())
		token := signed + "." + encode(string(ed25519.Sign(attackersKey(), []byte(signed))))
		if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrSignature) || keys.searches > 0 {
			t.Errorf("%s: %v, asked %d times", name, err, keys.searches)
		}
		if _, err := v.Verify(t.Context(), sign(header, livePayload())); err != nil {
			t.Errorf("%s, but signed by the issuer: %v", name, err)
		}
	}
}

// onlyJWK returns the JSON of key in a set.
func onlyJWK(t *testing.T, key Key) string {
	t.Helper()
	return strings.TrimSuffix(strings.TrimPrefix(string(mustSet(t, key).JSON()), `{"keys":[`), "]}")
}

func TestAFailedFetchForAnUnknownKidIsUnavailable(t *testing.T) {
	keys := &changingSource{set: mustSet(t, rsaKey("rsa"))}
	v := newVerifier(t, failingSearch{keys}, 10)
	if c, err := v.Verify(t.Context(), sign(edHeader(""), livePayload())); c != nil || !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v, %v", c, err)
	}
}

// A failingSearch has keys, but fails to look for newer ones.
type failingSearch struct{ *changingSource }

func (failingSearch) refresh(context.Context, *Set) (*Set, error) { return nil, ErrUnavailable }

// TestATokenExpiresWithAndWithoutACache: the cache does not extend the life of a token.
//
// R89.
func TestATokenExpiresWithAndWithoutACache(t *testing.T) {
	for _, entries := range []int{0, 10} {
		synctest.Test(t, func(t *testing.T) {
			v := newVerifier(t, mustSet(t, edKey("ed")), entries)
			start := time.Now().Unix()
			token := sign(edHeader(""), payload("exp", seconds(start+60), "iat", seconds(start), "nbf", seconds(start+10)))
			for _, tt := range []struct {
				after time.Duration
				want  error
			}{{0, ErrNotYet}, {10 * time.Second, nil}, {59*time.Second + 999*time.Millisecond, nil}, {time.Minute, ErrExpired}, {time.Hour, ErrExpired}} {
				time.Sleep(time.Until(time.Unix(start, 0).Add(tt.after)))
				if _, err := v.Verify(t.Context(), token); !errors.Is(err, tt.want) {
					t.Errorf("after %v, cache of %d: %v, want %v", tt.after, entries, err, tt.want)
				}
			}
		})
	}
}
