package diagnose

import (
	"encoding/json"
	"fmt"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

// A TokenReport is what verify --json prints. Expected, Found and Unverified may hold an
// attacker's text. Its length is bounded.
type TokenReport struct {
	Valid      bool            `json:"valid"`
	Check      string          `json:"check,omitempty"`      // the check that failed: "form", "key", "expired", …
	Reason     string          `json:"reason,omitempty"`     // why, in words
	Expected   string          `json:"expected,omitempty"`   // what that check expected
	Found      string          `json:"found,omitempty"`      // what it found
	Advice     string          `json:"advice,omitempty"`     // what to do
	KID        string          `json:"kid,omitempty"`        // the key that signed
	Alg        string          `json:"alg,omitempty"`        // the algorithm of that key
	Claims     json.RawMessage `json:"claims,omitempty"`     // of a token that the verifier accepted
	Unverified *UnverifiedPart `json:"unverified,omitempty"` // of any other
	KeySet     *KeySetReport   `json:"key_set,omitempty"`    // that the token was checked with
	LeftOut    []string        `json:"left_out,omitempty"`   // what was removed from around the token
}

// An UnverifiedPart holds members of a token with well-known names. A long value is replaced
// by its beginning, as a string.
type UnverifiedPart struct {
	Header map[string]json.RawMessage `json:"header,omitempty"`
	Claims map[string]json.RawMessage `json:"claims,omitempty"`
}

// A KeySetReport describes the key set of the issuer.
type KeySetReport struct {
	URL         string      `json:"url,omitempty"`
	Fetched     *time.Time  `json:"fetched"`
	AgeSeconds  int64       `json:"age_seconds"`
	FreshUntil  *time.Time  `json:"fresh_until"`  // how long caches may hold it
	UsableUntil *time.Time  `json:"usable_until"` // how long a service uses it if it can fetch no newer one
	Keys        []KeyReport `json:"keys"`
	Skipped     []string    `json:"skipped"` // keys that are not trusted, a line each; the last line of a long list counts the rest
}

// A KeyReport names one key of a set.
type KeyReport struct {
	KID string `json:"kid"`
	Alg string `json:"alg"`
}

// Report returns the result as JSON, in ASCII where a terminal could take a character for a
// command.
func (c *TokenCheck) Report() ([]byte, error) {
	raw, err := terminal.MarshalJSON(c.report())
	return terminal.EscapeJSON(raw), err
}

func (c *TokenCheck) report() TokenReport {
	out := TokenReport{Valid: c.err == nil, KeySet: c.keySetReport(), LeftOut: c.Token.leftOut}
	if c.claims != nil {
		out.KID, out.Alg, out.Claims = c.claims.KID, c.claims.Alg, c.claims.Raw
	} else {
		out.Unverified = &UnverifiedPart{bounded(c.Token.header, headerNames), bounded(c.Token.claims, claimNames)}
	}
	switch {
	case c.noKeySet():
		out.Check, out.Reason, out.Advice = "key_set", c.err.Error(), c.faultAdvice()
	case c.err != nil:
		r := c.failedRow()
		out.Check, out.Reason, out.Advice = c.failure.Step.String(), c.reason(), c.advice()
		out.Expected, out.Found = r.expected, r.found
	}
	return out
}

func (c *TokenCheck) keySetReport() *KeySetReport {
	if c.keys.Fetched.IsZero() {
		return nil
	}
	s := &KeySetReport{
		URL: c.keySetURL(), AgeSeconds: int64(c.keys.Age / time.Second), Fetched: wholeSeconds(c.keys.Fetched),
		FreshUntil: wholeSeconds(c.keys.FreshUntil), UsableUntil: wholeSeconds(c.keys.UsableUntil),
		Keys: []KeyReport{}, Skipped: skippedLines(c.keys.Skipped, len(c.keys.Skipped.Keys)),
	}
	for _, k := range c.keys.Keys {
		s.Keys = append(s.Keys, KeyReport{k.KID, k.Alg})
	}
	return s
}

// skippedLines has a line for each of the first most keys, and one that counts the others.
func skippedLines(skipped jwks.Skipped, most int) []string {
	lines := []string{}
	for _, k := range skipped.Keys[:min(most, len(skipped.Keys))] {
		lines = append(lines, k.String())
	}
	if more := skipped.Count - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	return lines
}

// wholeSeconds returns nil for a zero time.
func wholeSeconds(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// bounded returns the named members. It replaces a long value by its beginning, as a string.
func bounded(members map[string]json.RawMessage, names []string) map[string]json.RawMessage {
	kept := map[string]json.RawMessage{}
	for _, name := range names {
		raw, found := members[name]
		if !found {
			continue
		}
		if len(raw) > 4*maxShown {
			raw, _ = json.Marshal(clipped(memberText(members, name)))
		}
		kept[name] = raw
	}
	return kept
}
