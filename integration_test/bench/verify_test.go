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

func testStage(t *testing.T) *stage {
	t.Helper()
	s, err := openStage()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// TestContendersCheckWhatAServiceMust: a good token is taken, and forgeries are refused,
// by everyone who is measured.
func TestContendersCheckWhatAServiceMust(t *testing.T) {
	s := testStage(t)
	for _, alg := range []string{jwks.EdDSA, jwks.RS256} {
		contenders, err := s.contenders(t.Context(), alg)
		if err != nil {
			t.Fatal(err)
		}
		if len(contenders) != 6 {
			t.Errorf("%d contenders for %s", len(contenders), alg)
		}
		for _, c := range contenders {
			if err := s.prove(t.Context(), c, alg); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestALaxContenderIsFoundOut: who skips a check has no place in the table.
func TestALaxContenderIsFoundOut(t *testing.T) {
	s := testStage(t)
	goOIDC := func(change func(*oidc.Config), issuer string) contender {
		config := oidc.Config{ClientID: stageAudience, SupportedSigningAlgs: []string{jwks.EdDSA}}
		change(&config)
		v := oidc.NewVerifier(issuer, oidc.NewRemoteKeySet(t.Context(), s.issuer+keySetPath), &config)
		return contender{name: "lax", verify: func(ctx context.Context, token *signed) (string, error) {
			got, err := v.Verify(ctx, token.text)
			if err != nil {
				return "", err
			}
			return got.Subject, nil
		}}
	}
	answer := func(subject func(*signed) string) contender {
		return contender{name: "lax", verify: func(_ context.Context, token *signed) (string, error) {
			return subject(token), nil
		}}
	}
	for reason, c := range map[string]contender{
		"a token with another audience": goOIDC(func(c *oidc.Config) { c.SkipClientIDCheck = true }, s.issuer),
		"a token with another issuer":   goOIDC(func(c *oidc.Config) { c.SkipIssuerCheck = true }, s.issuer),
		"a token with an expired life":  goOIDC(func(c *oidc.Config) { c.SkipExpiryCheck = true }, s.issuer),
		"a token with":                  answer(func(token *signed) string { return token.subject }),
		"a good token":                  answer(func(*signed) string { return "somebody" }),
		"issued by a different":         goOIDC(func(*oidc.Config) {}, "http://localhost"),
	} {
		if err := s.prove(t.Context(), c, jwks.EdDSA); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v, want one about %q", err, reason)
		}
	}
	careless := contender{name: bare, signatureOnly: true, verify: func(_ context.Context, token *signed) (string, error) {
		return token.subject, nil
	}}
	if err := s.prove(t.Context(), careless, jwks.EdDSA); err == nil || !strings.Contains(err.Error(), "tampered") {
		t.Errorf("no signature checked at all: %v", err)
	}
}

func TestTokensAreLikeRealOnesAndAllDifferent(t *testing.T) {
	s := testStage(t)
	for alg, size := range map[string][2]int{jwks.EdDSA: {500, 650}, jwks.RS256: {750, 900}} {
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
			t.Errorf("%d texts and subjects of %d tokens", len(seen), len(pool))
		}
	}
}

func TestAContestMeasuresEverybody(t *testing.T) {
	var out strings.Builder
	if _, err := measureVerify(contestPlan{rounds: 2, slice: time.Millisecond}, &out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{bare, first, cached, "go-oidc", "keyfunc", "jwx"} {
		for _, trial := range []string{"EdDSA ", "RS256 ", "EdDSA ×16 "} {
			if !strings.Contains(out.String(), trial+name) {
				t.Errorf("no line of %s%s", trial, name)
			}
		}
	}
}

func TestAContestEndsAtAWrongAnswer(t *testing.T) {
	s := testStage(t)
	pool, err := s.tokens(jwks.EdDSA, 2)
	if err != nil {
		t.Fatal(err)
	}
	liar := score{contender: contender{name: "liar", verify: func(context.Context, *signed) (string, error) {
		return pool[0].subject, nil
	}}}
	if err := liar.take(t.Context(), trial{goroutines: 2}, pool, time.Second); err == nil || !strings.Contains(err.Error(), "liar") {
		t.Errorf("counted anyway: %v", err)
	}
}

// TestEverybodyHasEveryTurn: over some rounds each contender is as often first, second
// and so on as any other.
func TestEverybodyHasEveryTurn(t *testing.T) {
	const n = 6
	var count [n][n]int // contender, place → rounds
	for round := range 2 * n {
		order := turns(round, n)
		for place, c := range order {
			count[c][place]++
		}
		if slices.Sort(order); !slices.Equal(order, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("round %d: %v", round, order)
		}
	}
	for c, places := range count {
		for place, rounds := range places {
			if rounds != 2 {
				t.Errorf("contender %d has place %d %d times", c, place, rounds)
			}
		}
	}
}

func TestAssertNamesWhatVerificationMissed(t *testing.T) {
	const µs = 1000.0
	of := func(name string, rival bool, allocs float64, perOp ...float64) score {
		return score{contender: contender{name: name, rival: rival}, allocs: allocs, perOp: perOp}
	}
	contestOf := func(own, repeated score) contest {
		return contest{trial: trial{alg: jwks.EdDSA, goroutines: 1, asserted: true}, scores: []score{
			of(bare, false, 0, 40*µs, 80*µs), own, repeated,
			of("a", true, 50, 50*µs, 99*µs), of("b", true, 90, 60*µs, 88*µs), // the fastest: 50, 88
		}}
	}
	for _, tt := range []struct {
		name          string
		own, repeated score
		want          []string
	}{
		{"all reached", of(first, false, 49, 46*µs, 86*µs), of(cached, false, 0, 2*µs, 4*µs), nil},
		{"over the bare check", of(first, false, 49, 47*µs, 87*µs), of(cached, false, 0, 2*µs, 4*µs), []string{"7.0 µs over"}},
		{"slower than the fastest", of(first, false, 49, 51*µs, 75*µs), of(cached, false, 0, 2*µs, 4*µs), nil},
		{"slower in every round", of(first, false, 49, 51*µs, 89*µs), of(cached, false, 0, 2*µs, 4*µs), []string{"10.0 µs", "1.016 of"}},
		{"as many allocations", of(first, false, 50, 46*µs, 86*µs), of(cached, false, 0, 2*µs, 4*µs), []string{"50 allocations, a has 50"}},
		{"a slow cache", of(first, false, 49, 46*µs, 86*µs), of(cached, false, 0, 5*µs, 8*µs), []string{"cached 10.5 ×"}},
	} {
		missed := contestOf(tt.own, tt.repeated).demands()
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
	loose := contestOf(of(first, false, 99, 99*µs, 99*µs), of(cached, false, 9, 99*µs, 99*µs))
	loose.trial.asserted = false
	if missed := loose.demands(); missed != nil {
		t.Errorf("nothing is demanded of this one: %q", missed)
	}
}
