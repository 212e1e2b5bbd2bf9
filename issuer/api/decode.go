package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"keymill/issuer/refusal"
)

// Decode reads body, one JSON object, into the struct that v points to. The JSON tags of its
// fields name the members. It is stricter than encoding/json: it refuses, with
// "invalid_request", a member that no field has, one in another case, one that is given twice,
// invalid UTF-8, an escape of half a surrogate pair, and anything after the object. null counts
// as an absent member. After a refusal v may hold some of the members.
func Decode(body []byte, v any) error {
	fields := fieldsOf(v)
	return EachMember(body, func(name string, raw json.RawMessage) error {
		field, known := fields[name]
		switch {
		case !known && len(fields) == 0:
			return refusal.New("invalid_request", "unknown member '%s': this path takes none", short(name))
		case !known:
			return refusal.New("invalid_request", "unknown member '%s'; known members: %s",
				short(name), strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if err := json.Unmarshal(raw, field); err != nil || LoneSurrogate(raw) != 0 {
			return refusal.New("invalid_request", "member '%s' has the wrong type or form", name)
		}
		return nil
	})
}

// fieldsOf maps the JSON names of the fields of *v to pointers to them.
func fieldsOf(v any) map[string]any {
	s := reflect.ValueOf(v).Elem()
	fields := map[string]any{}
	for n := range s.NumField() {
		name, _, _ := strings.Cut(s.Type().Field(n).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields[name] = s.Field(n).Addr().Interface()
		}
	}
	return fields
}

// EachMember calls each with the members of body, one JSON object, in their order. It refuses what
// Decode refuses, except unknown members and lone surrogates: each can check for those.
// encoding/json by itself takes the last of two members, takes "TTL" for "ttl" and replaces broken
// UTF-8, so two programs can read the same body in two ways.
func EachMember(body []byte, each func(name string, raw json.RawMessage) error) error {
	if !utf8.Valid(body) {
		return refusal.New("invalid_request", "the body is not valid UTF-8")
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
		return refusal.New("invalid_request", "the body holds more than one JSON object")
	}
	return nil
}

var errSyntax = refusal.New("invalid_request", "the body is not well-formed JSON")

// short keeps a name of the request from filling the description.
func short(name string) refusal.Quoted { return refusal.Quoted(name[:min(len(name), 100)]) }

// LoneSurrogate returns the first escape in raw, such as \ud800, that is half of a surrogate
// pair; 0 if there is none. encoding/json replaces it silently. raw must be well-formed JSON,
// so that a backslash is part of a string and a character follows it.
func LoneSurrogate(raw []byte) rune {
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
	v, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // raw is well-formed
	return rune(v)
}

// distinctMembers fails if an object within raw names a member twice. Names are compared as
// they are read: "a" and "\u0061" are the same.
func distinctMembers(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	var open []map[string]bool // members of each open object; nil for an array
	wantName := false
	for {
		t, err := d.Token()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		name, isString := t.(string)
		switch {
		case wantName && isString:
			if open[len(open)-1][name] {
				return errors.New("a member is given twice")
			}
			open[len(open)-1][name] = true
			wantName = false
			continue
		case t == json.Delim('{'):
			open = append(open, map[string]bool{})
		case t == json.Delim('['):
			open = append(open, nil)
		case t == json.Delim('}'), t == json.Delim(']'):
			open = open[:len(open)-1]
		}
		wantName = len(open) > 0 && open[len(open)-1] != nil
	}
}
