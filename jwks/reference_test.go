package jwks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A reference is one JSON object, name → value as written. It is read by encoding/json, with the
// detours that make that strict. The scanner is compared with it.
type reference map[string]json.RawMessage

func referenceObject(b []byte) (reference, error) {
	// The decoder accepts more tokens than the grammar, so Valid is called first.
	if !utf8.Valid(b) || !json.Valid(b) {
		return nil, errors.New("not JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	found := reference{}
	for decoder.More() {
		before := decoder.InputOffset()
		token, err := decoder.Token()
		if err != nil {
			return nil, errors.New("not JSON")
		}
		if halfSurrogate(b[before:decoder.InputOffset()]) {
			return nil, errors.New("a lone surrogate")
		}
		name, _ := token.(string)
		if _, twice := found[name]; twice {
			return nil, fmt.Errorf("member %q occurs twice", name)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, errors.New("not JSON")
		}
		found[name] = value
	}
	return found, nil
}

var escapes = regexp.MustCompile(`\\[^u]|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....`)

// halfSurrogate looks at valid JSON. There a backslash occurs in strings only.
func halfSurrogate(b []byte) bool {
	for _, e := range escapes.FindAll(b, -1) {
		if len(e) == 6 && strings.ContainsRune("dD", rune(e[2])) && e[3] >= '8' {
			return true
		}
	}
	return false
}

// deep refuses repeated names at every level below o, and more than maxDepth levels.
func (o reference) deep(depth int) error {
	for _, value := range o {
		if err := deepValue(value, depth); err != nil {
			return err
		}
	}
	return nil
}

func deepValue(value json.RawMessage, depth int) error {
	if value[0] != '{' && value[0] != '[' {
		return nil
	}
	if depth >= maxDepth {
		return errors.New("too deep")
	}
	if value[0] == '{' {
		inner, err := referenceObject(value)
		if err != nil {
			return err
		}
		return inner.deep(depth + 1)
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(value, &elements); err != nil {
		return err
	}
	for _, element := range elements {
		if err := deepValue(element, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// referenceStrict reads b as a part of a token.
func referenceStrict(b []byte) (reference, error) {
	o, err := referenceObject(b)
	if err != nil {
		return nil, err
	}
	if halfSurrogate(b) {
		return nil, errors.New("a lone surrogate")
	}
	return o, o.deep(1)
}

func (o reference) text(name string) (string, error) {
	value, given := o[name]
	if !given {
		return "", nil
	}
	var s string
	if value[0] != '"' {
		return "", errors.New("not a string")
	}
	return s, json.Unmarshal(value, &s)
}

func (o reference) instant(name string) (time.Time, error) {
	value, given := o[name]
	if !given {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || !(seconds >= 0 && seconds < 253402300800) {
		return time.Time{}, errors.New("not a time")
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), nil
}

func (o reference) audience() ([]string, error) {
	value, given := o["aud"]
	if !given {
		return nil, nil
	}
	if value[0] == '"' {
		s, err := o.text("aud")
		return []string{s}, err
	}
	var elements []any
	if value[0] != '[' {
		return nil, errors.New("neither")
	}
	if err := json.Unmarshal(value, &elements); err != nil {
		return nil, err
	}
	all := []string{}
	for _, element := range elements {
		s, ok := element.(string)
		if !ok {
			return nil, errors.New("not a string")
		}
		all = append(all, s)
	}
	return all, nil
}

// referenceClaims returns what readClaims must return.
func referenceClaims(payload []byte) (*Claims, error) {
	o, err := referenceStrict(payload)
	if err != nil {
		return nil, err
	}
	c := &Claims{Raw: payload}
	for name, into := range map[string]*string{
		"iss": &c.Issuer, "sub": &c.Subject, "client_id": &c.ClientID,
		"jti": &c.ID, "scope": &c.Scope, "sid": &c.SessionID,
	} {
		if *into, err = o.text(name); err != nil {
			return nil, err
		}
	}
	for name, into := range map[string]*time.Time{"exp": &c.Expires, "iat": &c.IssuedAt, "nbf": &c.NotBefore} {
		if *into, err = o.instant(name); err != nil {
			return nil, err
		}
	}
	if c.Audience, err = o.audience(); err != nil {
		return nil, err
	}
	return c, nil
}

// referenceDocument reports whether b is a key set, whatever its keys are.
func referenceDocument(b []byte) bool {
	o, err := referenceObject(b)
	return err == nil && len(b) <= maxDocumentBytes && len(o["keys"]) > 0 && o["keys"][0] == '['
}
