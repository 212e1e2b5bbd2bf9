package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"keymill/jwks"
)

// checkVerifier returns an error unless v accepts a valid token, returns its subject and
// refuses every forgery. A verifier that checked less would be faster for no good reason.
func (s *testIssuer) checkVerifier(ctx context.Context, v verifier, alg string) error {
	good, err := s.sign(alg, s.claims())
	if err != nil {
		return err
	}
	for range 2 { // the second time is for verifiers with a cache
		if err := v.once(ctx, &good); err != nil {
			return fmt.Errorf("a valid token of %s: %w", alg, err)
		}
	}
	bad, err := s.forgeries(good, alg)
	if err != nil {
		return err
	}
	for name, token := range bad {
		if v.signatureOnly && name != "tampered payload" && name != "tampered signature" {
			continue
		}
		if _, err := v.verify(ctx, &token); err == nil {
			return fmt.Errorf("%s %s accepts a token with %s", v.name, alg, name)
		}
	}
	return nil
}

// forgeries maps what is wrong with a token to a token that must be refused.
func (s *testIssuer) forgeries(good signed, alg string) (map[string]signed, error) {
	other, err := good.withPayload(s.claims())
	if err != nil {
		return nil, err
	}
	out := map[string]signed{"tampered payload": other, "tampered signature": good.withSignature()}
	for name, change := range map[string]func(*userClaims){
		"another issuer":   func(c *userClaims) { c.Issuer = "http://127.0.0.1" },
		"another audience": func(c *userClaims) { c.Audience = "payroll.example.com" },
		"an expired exp":   func(c *userClaims) { c.Expires = time.Now().Add(-time.Hour).Unix() },
	} {
		c := s.claims()
		change(&c)
		if out[name], err = s.sign(alg, c); err != nil {
			return nil, err
		}
	}
	kid, err := jwks.Thumbprint(good.key)
	if err != nil {
		return nil, err
	}
	none := good
	_, rest, _ := strings.Cut(good.text, ".")
	none.text = tokenHeader("none", kid) + "." + rest
	out["alg none"] = none
	return out, nil
}

// withPayload returns t with another payload and the old signature.
func (t signed) withPayload(c userClaims) (signed, error) {
	header, _, _ := strings.Cut(t.text, ".")
	payload, err := json.Marshal(c)
	if err != nil {
		return signed{}, err
	}
	covered := header + "." + encode(payload)
	t.text, t.covered, t.subject = covered+"."+encode(t.signature), []byte(covered), c.Subject
	return t, nil
}

// withSignature returns t with one bit of its signature changed.
func (t signed) withSignature() signed {
	t.signature = slices.Clone(t.signature)
	t.signature[len(t.signature)/2] ^= 1
	t.text = string(t.covered) + "." + encode(t.signature)
	return t
}
