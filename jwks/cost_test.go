package jwks

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAVerificationAllocatesLittle: most allocations are for the caller's claims, or are made
// by RSA itself.
func TestAVerificationAllocatesLittle(t *testing.T) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"), ecKey("ec"))
	first, hit := newVerifier(t, set, 0), newVerifier(t, set, 10)
	for _, tt := range []struct {
		header string
		key    Key
		first  float64 // more than the bare signature check
	}{{edHeader(""), edKey("ed"), 7}, {rsaHeader, rsaKey("rsa"), 7}, {ecHeader, ecKey("ec"), 7}} {
		token := sign(tt.header, livePayload())
		_, parts, err := split(token)
		if err != nil {
			t.Fatal(err)
		}
		bare := testing.AllocsPerRun(50, func() { tt.key.signed(parts.signed, parts.signature) })
		if n := testing.AllocsPerRun(50, func() { first.Verify(t.Context(), token) }); n > bare+tt.first {
			t.Errorf("%s: %v allocations, %v of them the signature's", tt.key.Alg, n, bare)
		}
		if n := testing.AllocsPerRun(50, func() { hit.Verify(t.Context(), token) }); n > 4 {
			t.Errorf("%s: %v allocations for a hit", tt.key.Alg, n)
		}
	}
}

// TestAHostileHeaderCostsNoMoreThanASignature: a header is read before the sender is known. The
// factor is large, since the race detector slows only one of the two.
func TestAHostileHeaderCostsNoMoreThanASignature(t *testing.T) {
	const size = maxTokenBytes*3/4 - 200
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	set := mustSet(t, edKey("ed"))
	v := newVerifier(t, set, 0)
	key, _ := set.Key("ed")
	_, parts, err := split(sign(edHeader(""), livePayload()))
	if err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]string{
		"members":        edHeader("," + strings.Trim(manyMembers(1000), "{}")),
		"members below":  edHeader(`,"x":` + manyMembers(1000)),
		"objects":        edHeader(`,"x":[` + fill("{},") + `{}]`),
		"small objects":  edHeader(`,"x":[` + fill(`{"a":1},`) + `{}]`),
		"arrays":         edHeader(`,"x":[` + fill("[],") + `[]]`),
		"deep":           edHeader(`,"x":` + fill("[")),
		"numbers":        edHeader(`,"x":[` + fill("1e9,") + `1]`),
		"one number":     edHeader(`,"x":` + fill("9")),
		"one text":       edHeader(`,"x":"` + fill("x") + `"`),
		"escapes":        edHeader(`,"x":"` + fill(`\n`) + `"`),
		"pairs":          edHeader(`,"x":"` + fill(`\ud83d\ude00`) + `"`),
		"backslashes":    edHeader(`,"x":"` + fill(`\\`) + `"`),
		"UTF-8":          edHeader(`,"x":"` + fill("é") + `"`),
		"long name":      edHeader(`,"` + fill("x") + `":1`),
		"long kid":       fmt.Sprintf(`{"alg":"EdDSA","typ":"at+jwt","kid":"%s"}`, fill("k")),
		"white space":    edHeader(fill(" ")),
		"not JSON early": fill("{"),
	} {
		token := encode(header) + "." + encode("{}") + "." + encode(strings.Repeat("s", 64))
		if len(token) > maxTokenBytes || len(token) < 8000 {
			t.Fatalf("%s: the row has %d bytes", name, len(token))
		}
		cost, signature := time.Hour, time.Hour
		for range 50 { // in turns, and the least of each is what it takes when nothing gets in its way
			cost = min(cost, timed(func() { v.Verify(t.Context(), token) }))
			signature = min(signature, timed(func() { key.signed(parts.signed, parts.signature) }))
		}
		if cost > 6*signature {
			t.Errorf("%s: %v, a signature takes %v", name, cost, signature)
		}
		t.Logf("%-14s %v of %v", name, cost, signature)
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
