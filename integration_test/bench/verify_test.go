package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"keymill/jwks"
)

func newTestIssuer(t *testing.T) *testIssuer {
	t.Helper()
	s, err := startIssuer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// TestEveryVerifierRefusesForgeries: every verifier that is measured accepts a valid token and
// refuses forgeries.
func TestEveryVerifierRefusesForgeries(t *testing.T) {
	s := newTestIssuer(t)
	for _, alg := range jwks.Algorithms() {
		verifiers, err := s.verifiers(t.Context(), alg)
		if err != nil {
			t.Fatal(err)
		}
		if len(verifiers) != 6 {
			t.Errorf("%d verifiers for %s, want 6", len(verifiers), alg)
		}
		for _, c := range verifiers {
			if err := s.checkVerifier(t.Context(), c, alg); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestALaxVerifierIsDetected: a verifier that skips a check is not measured.
func TestALaxVerifierIsDetected(t *testing.T) {
	s := newTestIssuer(t)
	goOIDC := func(change func(*oidc.Config), issuer string) verifier {
		config := oidc.Config{ClientID: issuerAudience, SupportedSigningAlgs: []string{jwks.EdDSA}}
		change(&config)
		v := oidc.NewVerifier(issuer, oidc.NewRemoteKeySet(t.Context(), s.issuer+keySetPath), &config)
		return verifier{name: "lax", verify: func(ctx context.Context, token *signed) (string, error) {
			got, err := v.Verify(ctx, token.text)
			if err != nil {
				return "", err
			}
			return got.Subject, nil
		}}
	}
	answer := func(subject func(*signed) string) verifier {
		return verifier{name: "lax", verify: func(_ context.Context, token *signed) (string, error) {
			return subject(token), nil
		}}
	}
	for reason, c := range map[string]verifier{
		"a token with another audience": goOIDC(func(c *oidc.Config) { c.SkipClientIDCheck = true }, s.issuer),
		"a token with another issuer":   goOIDC(func(c *oidc.Config) { c.SkipIssuerCheck = true }, s.issuer),
		"a token with an expired exp":   goOIDC(func(c *oidc.Config) { c.SkipExpiryCheck = true }, s.issuer),
		"a token with":                  answer(func(token *signed) string { return token.subject }),
		"a valid token":                 answer(func(*signed) string { return "another subject" }),
		"issued by a different":         goOIDC(func(*oidc.Config) {}, "http://localhost"),
	} {
		if err := s.checkVerifier(t.Context(), c, jwks.EdDSA); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v, want an error with %q", err, reason)
		}
	}
	careless := verifier{name: bare, signatureOnly: true, verify: func(_ context.Context, token *signed) (string, error) {
		return token.subject, nil
	}}
	if err := s.checkVerifier(t.Context(), careless, jwks.EdDSA); err == nil || !strings.Contains(err.Error(), "tampered") {
		t.Errorf("a verifier that checks no signature: %v, want an error", err)
	}
}

func TestTokensHaveRealSizesAndAllDiffer(t *testing.T) {
	s := newTestIssuer(t)
	for alg, size := range map[string][2]int{jwks.EdDSA: {500, 650}, jwks.RS256: {750, 900}, jwks.ES256: {500, 650}} {
		pool, err := s.tokens(alg, 20)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, token := range pool {
			seen[token.text], seen[token.subject] = true, true
			if n := len(token.text); n < size[0] || n > size[1] {
				t.Errorf("a token of %s has %d bytes", alg, n)
			}
		}
		if len(seen) != 2*len(pool) {
			t.Errorf("%d different texts and subjects of %d tokens", len(seen), len(pool))
		}
	}
}

func TestAComparisonMeasuresEveryVerifier(t *testing.T) {
	var out strings.Builder
	if _, err := measureVerify(verifyPlan{rounds: 2, slice: time.Millisecond}, &out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{bare, first, cached, "go-oidc", "keyfunc", "jwx"} {
		for _, workload := range []string{"EdDSA ", "RS256 ", "ES256 ", "EdDSA ×16 "} {
			if !strings.Contains(out.String(), workload+name) {
				t.Errorf("no line of %s%s", workload, name)
			}
		}
	}
}

func TestAComparisonEndsAtAWrongAnswer(t *testing.T) {
	s := newTestIssuer(t)
	pool, err := s.tokens(jwks.EdDSA, 2)
	if err != nil {
		t.Fatal(err)
	}
	wrong := measurement{verifier: verifier{name: "wrong", verify: func(context.Context, *signed) (string, error) {
		return pool[0].subject, nil
	}}}
	if err := wrong.add(t.Context(), workload{goroutines: 2}, pool, time.Second); err == nil || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong subject was counted: %v", err)
	}
}

// TestEveryVerifierHasEveryPlace: over some rounds each verifier is as often first, second and
// so on as any other.
func TestEveryVerifierHasEveryPlace(t *testing.T) {
	const n = 6
	var count [n][n]int // verifier, place → rounds
	for round := range 2 * n {
		got := order(round, n)
		for place, c := range got {
			count[c][place]++
		}
		if slices.Sort(got); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("round %d: %v", round, got)
		}
	}
	for c, places := range count {
		for place, rounds := range places {
			if rounds != 2 {
				t.Errorf("verifier %d has place %d %d times", c, place, rounds)
			}
		}
	}
}

func TestAssertNamesTheBoundsThatVerificationMisses(t *testing.T) {
	const µs = 1000.0
	of := func(name string, library bool, allocs float64, perOp ...float64) measurement {
		return measurement{verifier: verifier{name: name, library: library}, allocs: allocs, perOp: perOp}
	}
	comparisonOf := func(own, repeated measurement) comparison {
		return comparison{workload: workload{alg: jwks.EdDSA, goroutines: 1, asserted: true}, measurements: []measurement{
			of(bare, false, 0, 40*µs, 80*µs), own, repeated,
			of("a", true, 50, 50*µs, 99*µs), of("b", true, 90, 60*µs, 88*µs), // the fastest: 50, 88
		}}
	}
	for _, tt := range []struct {
		name          string
		own, repeated measurement
		want          []string
	}{
		{"all bounds are kept", of(first, false, 49, 46*µs, 86*µs), of(cached, false, 0, 2*µs, 4*µs), nil},
		{"over the bare check", of(first, false, 49, 47*µs, 87*µs), of(cached, false, 0, 2*µs, 4*µs), []string{"7.0 µs over"}},
		{"slower than the fastest", of(first, false, 49, 51*µs, 75*µs), of(cached, false, 0, 2*µs, 4*µs), nil},
		{"slower in every round", of(first, false, 49, 51*µs, 89*µs), of(cached, false, 0, 2*µs, 4*µs), []string{"10.0 µs", "1.016 of"}},
		{"as many allocations", of(first, false, 50, 46*µs, 86*µs), of(cached, false, 0, 2*µs, 4*µs), []string{"50 allocations, a has 50"}},
		{"a slow cache", of(first, false, 49, 46*µs, 86*µs), of(cached, false, 0, 5*µs, 8*µs), []string{"cached 10.5 ×"}},
	} {
		missed := comparisonOf(tt.own, tt.repeated).missed()
		if len(missed) != len(tt.want) {
			t.Errorf("%s: missed %q, want %q", tt.name, missed, tt.want)
			continue
		}
		for i, text := range tt.want {
			if !strings.Contains(missed[i], text) {
				t.Errorf("%s: missed %q, want %q", tt.name, missed[i], text)
			}
		}
	}
	loose := comparisonOf(of(first, false, 99, 99*µs, 99*µs), of(cached, false, 9, 99*µs, 99*µs))
	loose.workload.asserted = false
	if missed := loose.missed(); missed != nil {
		t.Errorf("missed %q of a workload that is not asserted", missed)
	}
}
