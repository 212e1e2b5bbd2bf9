package endpoint

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"keymill/issuer/refusal"
)

const maxAdminBytes = 64 << 10

// members says what a JSON object may hold: name → pointer to where the value goes.
type members map[string]any

// decodeStrict reads one JSON object whose members are all known. null is an absent member.
func decodeStrict(body []byte, into members) error {
	return eachMember(body, func(name string, raw json.RawMessage) error { return setMember(name, raw, into) })
}

// eachMember reads one JSON object whose members are spelled exactly and given once.
// encoding/json by itself takes the last of two members, takes "TTL" for "ttl" and
// replaces broken UTF-8, so that what one program checked is not always what the next
// one reads.
func eachMember(body []byte, each func(name string, raw json.RawMessage) error) error {
	if !utf8.Valid(body) {
		return refusal.New("invalid_request", "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return refusal.New("invalid_request", "the body must be one JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return errSyntax
		}
		if seen[name] {
			return refusal.New("invalid_request", "member '%s' is given twice", short(name))
		}
		seen[name] = true
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return errSyntax
		}
		if err := each(name, raw); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errSyntax
	}
	if _, err := d.Token(); err != io.EOF {
		return refusal.New("invalid_request", "something follows the JSON object")
	}
	return nil
}

var errSyntax = refusal.New("invalid_request", "the body is not well-formed JSON")

// halfPair finds an escape such as \ud800 that stands alone, which encoding/json replaces
// without a word; 0 if there is none. raw is well-formed JSON, so that a backslash is
// part of a string and something follows it.
func halfPair(raw []byte) rune {
	for n := 0; n < len(raw); n++ {
		if raw[n] != '\\' {
			continue
		}
		if n++; raw[n] != 'u' {
			continue
		}
		first := escaped(raw[n+1:])
		if n += 4; !utf16.IsSurrogate(first) {
			continue
		}
		if n+6 >= len(raw) || raw[n+1] != '\\' || raw[n+2] != 'u' ||
			utf16.DecodeRune(first, escaped(raw[n+3:])) == utf8.RuneError {
			return first
		}
		n += 6
	}
	return 0
}

// escaped reads the four digits of an escape.
func escaped(digits []byte) rune {
	v, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // json.Valid has seen them
	return rune(v)
}

func setMember(name string, raw json.RawMessage, into members) error {
	target, ok := into[name]
	if !ok && len(into) == 0 {
		return refusal.New("invalid_request", "there is no member '%s': this path takes none", short(name))
	}
	if !ok {
		return refusal.New("invalid_request", "there is no member '%s', only %s",
			short(name), strings.Join(sortedNames(into), ", "))
	}
	if err := json.Unmarshal(raw, target); err != nil || halfPair(raw) != 0 {
		return refusal.New("invalid_request", "member '%s' has the wrong type or form", name)
	}
	return nil
}

// readMembers reads the body of an administrator's request.
func readMembers(w http.ResponseWriter, r *http.Request, into members) error {
	body, err := readBody(w, r, maxAdminBytes)
	if err != nil {
		return err
	}
	return decodeStrict(body, into)
}

// readQuery reads a query in which nothing is broken or said twice.
func readQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refusal.New("invalid_request", "the query is not well encoded")
	}
	for name, values := range query {
		if len(values) > 1 {
			return nil, refusal.New("invalid_request", "the query holds '%s' twice", short(name))
		}
	}
	return query, nil
}

// readNumber reads a number from the query, fallback if it is absent.
func readNumber(r *http.Request, name string, fallback, lowest, highest uint64) (uint64, error) {
	query, err := readQuery(r)
	if err != nil {
		return 0, err
	}
	s := query.Get(name)
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < lowest || n > highest {
		return 0, refusal.New("invalid_request", "%s must be a number from %d to %d", name, lowest, highest)
	}
	return n, nil
}
