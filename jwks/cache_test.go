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

// numbered is a good token unlike all others.
func numbered(n int) string {
	return sign(edHeader(""), livePayload("jti", strconv.Quote(strconv.Itoa(n))))
}

func (c *cache) size() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.young) + len(c.old)
}

// mark alters what v remembers of token, so that a hit shows.
func mark(t *testing.T, v *Verifier, token string) {
	t.Helper()
	known := v.cache.get(sha256.Sum256([]byte(token)))
	if known == nil {
		t.Fatal("the token is not remembered")
	}
	known.claims.Subject = "remembered"
}

func subject(t *testing.T, v *Verifier, token string) string {
	t.Helper()
	c, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return c.Subject
}

// TestARememberedTokenDiesWithItsKey: what counts is the key, not its name and not the
// document that it came in.
func TestARememberedTokenDiesWithItsKey(t *testing.T) {
	for _, tt := range []struct {
		token string
		key   Key
		twin  Key // another under the same kid
	}{
		{sign(edHeader(""), livePayload()), edKey("ed"), Key{"ed", EdDSA, strangersKey().Public()}},
		{sign(rsaHeader, livePayload()), rsaKey("rsa"), Key{"rsa", RS256, onlyKey(t, rfc7638Key).Public}},
	} {
		keys := &changing{set: mustSet(t, tt.key)}
		v := newVerifier(t, keys, 10)
		if subject(t, v, tt.token) != "alice" {
			t.Fatal("not verified")
		}
		mark(t, v, tt.token)
		if subject(t, v, tt.token) != "remembered" {
			t.Error("the token was verified again")
		}
		keys.publish(mustSet(t, tt.key, edKey("more")), nil)
		if subject(t, v, tt.token) != "remembered" {
			t.Error("another set with the same key made it forget")
		}
		keys.publish(nil, ErrUnavailable)
		if c, err := v.Verify(t.Context(), tt.token); c != nil || !errors.Is(err, ErrUnavailable) {
			t.Errorf("no keys to trust: %v, %v", c, err)
		}
		keys.publish(mustSet(t, edKey("more")), nil)
		if c, err := v.Verify(t.Context(), tt.token); c != nil || !errors.Is(err, ErrUnknownKey) || keys.searches != 1 {
			t.Errorf("the key is gone: %v, %v", c, err)
		}
		keys.publish(mustSet(t, tt.twin), nil)
		if c, err := v.Verify(t.Context(), tt.token); c != nil || !errors.Is(err, ErrSignature) {
			t.Errorf("another key under its kid: %v, %v", c, err)
		}
	}
}

func TestClaimsAreTheCallersOwn(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed")), 10)
	token := sign(edHeader(""), livePayload("aud", `["orders","billing"]`))
	for range 3 {
		c, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if c.Subject != "alice" || c.Audience[0] != "orders" || c.Raw[0] != '{' || c.KID != "ed" || c.Alg != EdDSA {
			t.Fatalf("a caller before us left %+v", c)
		}
		c.Subject, c.Audience[0], c.Raw[0], c.KID = "mallory", "evil", 'x', "x"
		_ = append(c.Audience[:1], "evil")
	}
}

// TestOnlyGoodTokensAreRemembered: nobody who cannot sign fills the memory.
func TestOnlyGoodTokensAreRemembered(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed"), rsaKey("rsa")), 1000)
	good := sign(edHeader(""), livePayload())
	for _, row := range changes() {
		if _, err := v.Verify(t.Context(), row.apply(good)); err == nil {
			t.Fatal(row.rule)
		}
	}
	if n := v.cache.size(); n != 0 {
		t.Errorf("%d refused tokens are remembered", n)
	}
	long := sign(edHeader(""), livePayload("x", `"`+strings.Repeat("x", maxCachedToken)+`"`))
	if _, err := v.Verify(t.Context(), long); err != nil || v.cache.size() != 0 {
		t.Errorf("a long token: %v, %d remembered", err, v.cache.size())
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	for _, most := range []int{1, 2, 3, 10} {
		v := newVerifier(t, mustSet(t, edKey("ed")), most)
		for n := range 50 {
			subject(t, v, numbered(n))
			subject(t, v, numbered(n/2))
			if size := v.cache.size(); size == 0 || size > most {
				t.Fatalf("a cache of %d holds %d", most, size)
			}
		}
	}
}

// TestWhatIsInUseStays while others come and go.
func TestWhatIsInUseStays(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed")), 10)
	used, once := numbered(-1), numbered(-2)
	subject(t, v, used)
	subject(t, v, once)
	mark(t, v, used)
	mark(t, v, once)
	for n := range 50 {
		subject(t, v, numbered(n))
		if subject(t, v, used) != "remembered" {
			t.Fatalf("forgotten after %d others", n)
		}
	}
	if subject(t, v, once) == "remembered" {
		t.Error("what nobody asked for is still there")
	}
}

// TestManyVerifyWhileKeysChange is for the race detector: every answer is one that some
// set allows.
func TestManyVerifyWhileKeysChange(t *testing.T) {
	with, without := mustSet(t, edKey("ed")), mustSet(t, edKey("more"))
	keys := &changing{set: with}
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

// costliest is a token that is remembered and costs the most: its payload is kept as it
// is and as text, and texts with escapes once more.
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

// TestARememberedTokenCostsAtMost12KiB, as VerifierConfig.Cache promises.
func TestARememberedTokenCostsAtMost12KiB(t *testing.T) {
	const entries = 450 // of which a map has just grown
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
		t.Fatalf("%d of %d are remembered", v.cache.size(), entries)
	}
	if held/entries > 12<<10 {
		t.Errorf("%d bytes an entry", held/entries)
	}
	t.Logf("%d bytes an entry, for a token of %d", held/entries, len(tokens[0]))
	runtime.KeepAlive(v)
}

// TestATokenForManyIsNotRemembered: an empty name is 3 bytes of a token, and 16 of memory.
func TestATokenForManyIsNotRemembered(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed")), 10)
	for more, remembered := range map[int]int{maxCachedAudiences: 0, 900: 0, maxCachedAudiences - 1: 1} {
		v.cache = newCache(10)
		token := sign(edHeader(""), livePayload("aud", `["orders"`+strings.Repeat(`,""`, more)+`]`))
		for range 2 {
			c, err := v.Verify(t.Context(), token)
			if err != nil || len(c.Audience) != more+1 || v.cache.size() != remembered {
				t.Errorf("%d audiences: %v, %d remembered", more+1, err, v.cache.size())
			}
		}
	}
}
