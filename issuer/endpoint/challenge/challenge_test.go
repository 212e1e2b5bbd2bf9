package challenge

import (
	"errors"
	"testing"

	"keymill/issuer/refusal"
)

func TestAChallengeNamesTheAudienceAndTheError(t *testing.T) {
	for want, got := range map[string]*Error{
		`Bearer realm="orders"`:                        New(refusal.New("no_token", "x"), "orders"),
		`Bearer realm="orders", error="invalid_token"`: New(refusal.New("invalid_token", "x"), "orders", `error="invalid_token"`),
		`Bearer realm="a\"b\\c", error="e", scope="s"`: New(refusal.New("e", "x"), `a"b\c`, `error="e"`, `scope="s"`),
	} {
		if got.Challenge != want {
			t.Errorf("%s, want %s", got.Challenge, want)
		}
		if refused := (*refusal.Refusal)(nil); !errors.As(got, &refused) || refused.Description != "x" {
			t.Errorf("%s: %v is no refusal", want, got)
		}
	}
}
