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

// prove checks that c is a fair contender for alg: it accepts a good token and says
// whose it is, and refuses what a service must not believe. One that checked less would
// be faster for nothing.
func (s *stage) prove(ctx context.Context, c contender, alg string) error {
	good, err := s.sign(alg, s.claims())
	if err != nil {
		return err
	}
	for range 2 { // a second time for those that remember
		if err := c.once(ctx, &good); err != nil {
			return fmt.Errorf("a good token of %s: %w", alg, err)
		}
	}
	bad, err := s.forgeries(good, alg)
	if err != nil {
		return err
	}
	for name, token := range bad {
		if c.signatureOnly && name != "tampered payload" && name != "tampered signature" {
			continue
		}
		if _, err := c.verify(ctx, &token); err == nil {
			return fmt.Errorf("%s %s accepts a token with %s", c.name, alg, name)
		}
	}
	return nil
}

// forgeries are what is wrong → a token that must be refused.
func (s *stage) forgeries(good signed, alg string) (map[string]signed, error) {
	other, err := good.withPayload(s.claims())
	if err != nil {
		return nil, err
	}
	out := map[string]signed{"tampered payload": other, "tampered signature": good.withSignature()}
	for name, change := range map[string]func(*stageClaims){
		"another issuer":   func(c *stageClaims) { c.Issuer = "http://127.0.0.1" },
		"another audience": func(c *stageClaims) { c.Audience = "payroll.example.com" },
		"an expired life":  func(c *stageClaims) { c.Expires = time.Now().Add(-time.Hour).Unix() },
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

// withPayload returns t with another payload below the old signature.
func (t signed) withPayload(c stageClaims) (signed, error) {
	header, _, _ := strings.Cut(t.text, ".")
	payload, err := json.Marshal(c)
	if err != nil {
		return signed{}, err
	}
	covered := header + "." + encode(payload)
	t.text, t.covered, t.subject = covered+"."+encode(t.signature), []byte(covered), c.Subject
	return t, nil
}

// withSignature returns t with one bit of its signature turned.
func (t signed) withSignature() signed {
	t.signature = slices.Clone(t.signature)
	t.signature[len(t.signature)/2] ^= 1
	t.text = string(t.covered) + "." + encode(t.signature)
	return t
}
