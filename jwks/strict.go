package jwks

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// An object is the members of one JSON object, in their order.
type object []member

// A member is a name, without escapes, and its value as written.
type member struct{ name, raw string }

// parseObject reads b as one object without repeated names at its top level. Below
// that only the grammar is checked, so that a set can judge its keys one by one.
func parseObject(b []byte) (object, error) { return readObject(string(b), documentRules) }

func readObject(text string, r rules) (object, error) {
	var found object
	err := scanObject(text, r, func(name, raw string) error {
		found = append(found, member{name, raw})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// get returns the value under name as written.
func (o object) get(name string) (raw string, given bool) {
	for _, m := range o {
		if m.name == name {
			return m.raw, true
		}
	}
	return "", false
}

// text returns the string under name, and "" where there is none. Anything that is
// not a string, null included, is an error.
func (o object) text(name string) (string, error) {
	raw, given := o.get(name)
	if !given {
		return "", nil
	}
	s, err := asText(raw)
	if err != nil {
		return "", fmt.Errorf("%s is %w", name, err)
	}
	return s, nil
}

func asText(raw string) (string, error) {
	if raw == "" || raw[0] != '"' {
		return "", errors.New("not a string")
	}
	inner := raw[1 : len(raw)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner, nil
	}
	return unescape(inner)
}

// asTexts returns the strings of an array of strings, or of one string alone.
func asTexts(raw string) ([]string, error) {
	if raw != "" && raw[0] == '"' {
		s, err := asText(raw)
		return []string{s}, err
	}
	if raw == "" || raw[0] != '[' {
		return nil, errors.New("neither a string nor an array")
	}
	all := []string{}
	err := scanArray(raw, func(element string) error {
		s, err := asText(element)
		all = append(all, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// escapeLength measures the escape that s begins with; 0 means that it is none.
func escapeLength(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(s) < 6 {
			return 0
		}
		for i := 2; i < 6; i++ {
			if hexDigit(s[i]) < 0 {
				return 0
			}
		}
		return 6
	}
	return 0
}

// unescape resolves the escapes of a string, whose grammar was checked. Half of a
// surrogate pair is no character (RFC 8259, section 8.2): one reader keeps it, another
// makes U+FFFD of it, so two names could become one. It is refused.
func unescape(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			out = append(out, s[i])
			i++
			continue
		}
		if s[i+1] != 'u' {
			out = append(out, escaped(s[i+1]))
			i += 2
			continue
		}
		r := hexRune(s[i+2 : i+6])
		i += 6
		if utf16.IsSurrogate(r) {
			if !strings.HasPrefix(s[i:], `\u`) {
				return "", errHalf
			}
			if r = utf16.DecodeRune(r, hexRune(s[i+2:i+6])); r == utf8.RuneError {
				return "", errHalf
			}
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out), nil
}

var errHalf = errors.New("not JSON: half of a surrogate pair")

// escaped returns what \c stands for.
func escaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

func hexRune(digits string) rune {
	var r rune
	for i := range len(digits) {
		r = r<<4 | hexDigit(digits[i])
	}
	return r
}

// hexDigit returns -1 for what is none.
func hexDigit(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return rune(c - 'A' + 10)
	}
	return -1
}

// canonical refuses slack bits that are not zero: they would be a second spelling.
var canonical = base64.RawURLEncoding.Strict()

// decodeSegment reads unpadded base64url (RFC 7515, section 2) in its one canonical
// spelling, into room if it fits: two spellings of one token would pass a list of
// revoked ones.
func decodeSegment(s string, room []byte) ([]byte, error) {
	// Go's decoder skips line breaks, even when strict.
	if strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0 {
		return nil, errors.New("not base64url")
	}
	if n := canonical.DecodedLen(len(s)); n > len(room) {
		room = make([]byte, n)
	}
	n, err := canonical.Decode(room, []byte(s))
	if err != nil {
		return nil, notBase64(s)
	}
	return room[:n:n], nil
}

// notBase64 says what is wrong with s.
func notBase64(s string) error {
	for i := range len(s) {
		if !isBase64URL(s[i]) {
			return errors.New("not base64url")
		}
	}
	return errors.New("not canonical base64url")
}

func isBase64URL(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
