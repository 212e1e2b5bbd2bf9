package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode"
	"unicode/utf16"
)

// A verdict is what verify --json prints. Expected, found and unverified may hold a
// stranger's text, bounded in length.
type verdict struct {
	Valid      bool            `json:"valid"`
	Check      string          `json:"check,omitempty"`    // the check that failed
	Reason     string          `json:"reason,omitempty"`   // in words
	Expected   string          `json:"expected,omitempty"` // by that check
	Found      string          `json:"found,omitempty"`
	Advice     string          `json:"advice,omitempty"`
	KID        string          `json:"kid,omitempty"`
	Alg        string          `json:"alg,omitempty"`
	Claims     json.RawMessage `json:"claims,omitempty"`     // of a token whose claims can be believed
	Unverified *unverified     `json:"unverified,omitempty"` // of any other
	KeySet     *keySet         `json:"key_set,omitempty"`
	LeftOut    []string        `json:"left_out,omitempty"` // what was around the token
}

// unverified holds the members with known names, as they are if they are short.
type unverified struct {
	Header map[string]json.RawMessage `json:"header,omitempty"`
	Claims map[string]json.RawMessage `json:"claims,omitempty"`
}

type keySet struct {
	URL         string     `json:"url,omitempty"`
	Fetched     *time.Time `json:"fetched"`
	AgeSeconds  int64      `json:"age_seconds"`
	FreshUntil  *time.Time `json:"fresh_until"`  // caches may hold it as long
	UsableUntil *time.Time `json:"usable_until"` // and a service that reaches no newer one uses it
	Keys        []keyName  `json:"keys"`
	Skipped     []string   `json:"skipped"` // a line each; of a long list the last says how many more
}

type keyName struct {
	KID string `json:"kid"`
	Alg string `json:"alg"`
}

func (v *verification) printVerdict(w io.Writer) error {
	raw, err := marshalJSON(v.verdict())
	if err == nil {
		err = printJSON(w, escaped(raw))
	}
	switch {
	case err != nil || v.err == nil:
		return err
	case failedCheck(v.err) == "key_set" || failedCheck(v.err) == "other":
		return v.outcome() // its code differs, so it is said in words as well
	}
	return errSaid
}

func (v *verification) verdict() verdict {
	out := verdict{Valid: v.err == nil, KeySet: v.keySet(), LeftOut: v.strip}
	if v.claims != nil {
		out.KID, out.Alg, out.Claims = v.claims.KID, v.claims.Alg, v.claims.Raw
	} else {
		out.Unverified = &unverified{bounded(v.says.header, headerNames), bounded(v.says.claims, claimNames)}
	}
	if v.err == nil {
		return out
	}
	out.Check, out.Reason, out.Advice = failedCheck(v.err), v.err.Error(), v.advice()
	for _, c := range v.checks() {
		if c.result == failed {
			out.Expected, out.Found = c.expected, c.found
		}
	}
	return out
}

func (v *verification) keySet() *keySet {
	if v.keys.Fetched.IsZero() {
		return nil
	}
	s := &keySet{
		URL: v.keyLocation(), AgeSeconds: int64(v.keys.Age / time.Second), Fetched: given(v.keys.Fetched),
		FreshUntil: given(v.keys.FreshUntil), UsableUntil: given(v.keys.UsableUntil),
		Keys: []keyName{}, Skipped: v.skippedLines(),
	}
	for _, k := range v.keys.Keys {
		s.Keys = append(s.Keys, keyName{k.KID, k.Alg})
	}
	return s
}

// skippedLines has a line for each key that is listed, and one that counts the rest.
func (v *verification) skippedLines() []string {
	lines := []string{}
	for _, k := range v.keys.Skipped.Keys {
		lines = append(lines, k.String())
	}
	if more := v.keys.Skipped.Count - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	return lines
}

func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// bounded keeps the named members; a long one becomes its beginning, as text.
func bounded(members map[string]json.RawMessage, names []string) map[string]json.RawMessage {
	kept := map[string]json.RawMessage{}
	for _, name := range names {
		raw, there := members[name]
		if short := shown(members, name); there && len(raw) > 4*maxShown {
			raw, _ = json.Marshal(short)
		}
		if there {
			kept[name] = raw
		}
	}
	return kept
}

// escaped writes what a terminal would obey as \u escapes. In JSON such a character can
// only stand within a string, where the escape means the same.
func escaped(raw []byte) []byte {
	var b []byte
	for _, r := range string(raw) {
		switch {
		case unicode.IsPrint(r):
			b = append(b, string(r)...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}
