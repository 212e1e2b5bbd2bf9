package jwks

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func seconds(n int64) string { return strconv.FormatInt(n, 10) }

// numbered returns a valid token, a different one for each number.
func numbered(n int) string {
	return sign(edHeader(""), livePayload("jti", strconv.Quote(strconv.Itoa(n))))
}

func (c *cache) size() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.young) + len(c.old)
}

// mark changes the cached claims of token, so that a hit can be seen.
func mark(t *testing.T, v *Verifier, token string) {
	t.Helper()
	known := v.cache.get(sha256.Sum256([]byte(token)))
	if known == nil {
		t.Fatal("the token is not cached")
	}
	known.claims.Subject = "from the cache"
}

func subject(t *testing.T, v *Verifier, token string) string {
	t.Helper()
	c, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return c.Subject
}

// TestACachedTokenIsRefusedOnceItsKeyIsGone compares the key itself: neither its kid nor its document
// matters.
func TestACachedTokenIsRefusedOnceItsKeyIsGone(t *testing.T) {
	for _, tt := range []struct {
		token string
		key   Key
		twin  Key // another key with the same kid
	}{
		{sign(edHeader(""), livePayload()), edKey("ed"), Key{"ed", EdDSA, attackersKey().Public()}},
		{sign(rsaHeader, livePayload()), rsaKey("rsa"), Key{"rsa", RS256, onlyKey(t, rfc7638Key).Public}},
	} {
		keys := &changingSource{set: mustSet(t, tt.key)}
		v := newVerifier(t, keys, 10)
		if subject(t, v, tt.token) != "alice" {
			t.Fatal("not verified")
		}
		mark(t, v, tt.token)
		if subject(t, v, tt.token) != "from the cache" {
			t.Error("the token was verified again")
		}
		keys.publish(mustSet(t, tt.key, edKey("more")), nil)
		if subject(t, v, tt.token) != "from the cache" {
			t.Error("another set with the same key emptied the cache")
		}
		keys.publish(nil, ErrUnavailable)
		if c, err := v.Verify(t.Context(), tt.token); c != nil || !errors.Is(err, ErrUnavailable) {
			t.Errorf("without keys: %v, %v", c, err)
		}
		keys.publish(mustSet(t, edKey("more")), nil)
		if c, err := v.Verify(t.Context(), tt.token); c != nil || !errors.Is(err, ErrUnknownKey) || keys.searches != 1 {
			t.Errorf("the key is gone: %v, %v", c, err)
		}
		keys.publish(mustSet(t, tt.twin), nil)
		if c, err := v.Verify(t.Context(), tt.token); c != nil || !errors.Is(err, ErrSignature) {
			t.Errorf("another key with its kid: %v, %v", c, err)
		}
	}
}

func TestTheCallerMayChangeTheClaims(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed")), 10)
	token := sign(edHeader(""), livePayload("aud", `["orders","billing"]`))
	for range 3 {
		c, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if c.Subject != "alice" || c.Audience[0] != "orders" || c.Raw[0] != '{' || c.KID != "ed" || c.Alg != EdDSA {
			t.Fatalf("an earlier caller changed the claims: %+v", c)
		}
		c.Subject, c.Audience[0], c.Raw[0], c.KID = "mallory", "evil", 'x', "x"
		_ = append(c.Audience[:1], "evil")
	}
}

// TestOnlyValidTokensAreCached: a client without valid tokens cannot fill the cache.
func TestOnlyValidTokensAreCached(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed"), rsaKey("rsa")), 1000)
	good := sign(edHeader(""), livePayload())
	for _, row := range changes() {
		if _, err := v.Verify(t.Context(), row.apply(good)); err == nil {
			t.Fatal(row.rule)
		}
	}
	if n := v.cache.size(); n != 0 {
		t.Errorf("%d refused tokens are cached", n)
	}
	long := sign(edHeader(""), livePayload("x", `"`+strings.Repeat("x", maxCachedToken)+`"`))
	if _, err := v.Verify(t.Context(), long); err != nil || v.cache.size() != 0 {
		t.Errorf("a long token: %v, %d cached", err, v.cache.size())
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	for _, most := range []int{1, 2, 3, 10} {
		v := newVerifier(t, mustSet(t, edKey("ed")), most)
		for n := range 50 {
			subject(t, v, numbered(n))
			subject(t, v, numbered(n/2))
			if size := v.cache.size(); size == 0 || size > most {
				t.Fatalf("a cache for %d tokens has %d", most, size)
			}
		}
	}
}

// TestTokensInUseStayCached while other tokens come and go.
func TestTokensInUseStayCached(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed")), 10)
	used, once := numbered(-1), numbered(-2)
	subject(t, v, used)
	subject(t, v, once)
	mark(t, v, used)
	mark(t, v, once)
	for n := range 50 {
		subject(t, v, numbered(n))
		if subject(t, v, used) != "from the cache" {
			t.Fatalf("dropped after %d others", n)
		}
	}
	if subject(t, v, once) == "from the cache" {
		t.Error("a token that was not used is still cached")
	}
}

// TestVerifyIsSafeWhileKeysChange is for the race detector. Every result must be right for one of
// the sets.
func TestVerifyIsSafeWhileKeysChange(t *testing.T) {
	with, without := mustSet(t, edKey("ed")), mustSet(t, edKey("more"))
	keys := &changingSource{set: with}
	v := newVerifier(t, keys, 4)
	var tokens []string
	for n := range 8 {
		tokens = append(tokens, numbered(n))
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for n := range 400 {
				c, err := v.Verify(t.Context(), tokens[n%len(tokens)])
				if err == nil && c.ID != strconv.Itoa(n%len(tokens)) || err != nil && !errors.Is(err, ErrUnknownKey) {
					t.Errorf("%v, %v", c, err)
				}
			}
		})
	}
	for range 200 {
		keys.publish(without, nil)
		keys.publish(with, nil)
	}
	group.Wait()
}

// costliest returns the token whose cache entry needs the most memory: its payload is kept as
// bytes and as text, and strings with escapes are kept once more.
func costliest(n int) string {
	audiences := `["orders"` + strings.Repeat(`,""`, maxCachedAudiences-1) + `]`
	token := func(fill int) string {
		return sign(edHeader(""), livePayload("aud", audiences, "jti", fmt.Sprintf(`"\n%d%s"`, n, strings.Repeat("x", fill))))
	}
	fill := 0
	for step := 2048; step > 0; step /= 2 {
		if len(token(fill+step)) <= maxCachedToken {
			fill += step
		}
	}
	return token(fill)
}

// TestACachedTokenCostsAtMost12KiB, as VerifierConfig.Cache promises.
func TestACachedTokenCostsAtMost12KiB(t *testing.T) {
	const entries = 450 // the map has just grown for them
	v := newVerifier(t, mustSet(t, edKey("ed")), 2*entries+2)
	tokens := make([]string, entries)
	for n := range tokens {
		tokens[n] = costliest(n)
	}
	_, held, _ := memory(func() bool {
		for _, token := range tokens {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	if v.cache.size() != entries {
		t.Fatalf("%d of %d are cached", v.cache.size(), entries)
	}
	if held/entries > 12<<10 {
		t.Errorf("%d bytes for an entry", held/entries)
	}
	t.Logf("%d bytes for an entry, for a token of %d", held/entries, len(tokens[0]))
	runtime.KeepAlive(v)
}

// TestATokenForManyAudiencesIsNotCached: an empty name needs 3 bytes in a token and 16 in memory.
func TestATokenForManyAudiencesIsNotCached(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed")), 10)
	for more, cached := range map[int]int{maxCachedAudiences: 0, 900: 0, maxCachedAudiences - 1: 1} {
		v.cache = newCache(10)
		token := sign(edHeader(""), livePayload("aud", `["orders"`+strings.Repeat(`,""`, more)+`]`))
		for range 2 {
			c, err := v.Verify(t.Context(), token)
			if err != nil || len(c.Audience) != more+1 || v.cache.size() != cached {
				t.Errorf("%d audiences: %v, %d cached", more+1, err, v.cache.size())
			}
		}
	}
}
