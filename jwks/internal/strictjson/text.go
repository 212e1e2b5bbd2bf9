package strictjson

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// An Object holds the members of one JSON object, in their order.
type Object []member

// A member is a name without escapes, and its value as it was written.
type member struct{ name, raw string }

// Read reads text as one object.
func Read(text string, r Rules) (Object, error) {
	var found Object
	err := Scan(text, r, func(name, raw string) error {
		found = append(found, member{name, raw})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Get returns the value of a member as it was written.
func (o Object) Get(name string) (raw string, given bool) {
	for _, m := range o {
		if m.name == name {
			return m.raw, true
		}
	}
	return "", false
}

// Text returns a member that is a string, and "" if the member is absent. Any other value,
// also null, is an error.
func (o Object) Text(name string) (string, error) {
	raw, given := o.Get(name)
	if !given {
		return "", nil
	}
	s, err := Text(raw)
	if err != nil {
		return "", fmt.Errorf("%s is %w", name, err)
	}
	return s, nil
}

// Text returns the string that raw is, with its escapes resolved. Any other value, also null, is an error.
func Text(raw string) (string, error) {
	if raw == "" || raw[0] != '"' {
		return "", errors.New("not a string")
	}
	inner := raw[1 : len(raw)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner, nil
	}
	return unescape(inner)
}

// Texts returns the strings of an array of strings, or one string alone.
func Texts(raw string) ([]string, error) {
	if raw != "" && raw[0] == '"' {
		s, err := Text(raw)
		return []string{s}, err
	}
	if raw == "" || raw[0] != '[' {
		return nil, errors.New("neither a string nor an array")
	}
	all := []string{}
	err := ScanArray(raw, func(element string) error {
		s, err := Text(element)
		all = append(all, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// escapeLength returns the length of the escape at the start of s; 0 if it is not an escape.
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

// unescape resolves the escapes of a string whose grammar was checked. It refuses a lone
// surrogate, which is not a character (RFC 8259, section 8.2): one reader keeps it and
// another replaces it with U+FFFD, so two names could become the same.
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
				return "", errLoneSurrogate
			}
			if r = utf16.DecodeRune(r, hexRune(s[i+2:i+6])); r == utf8.RuneError {
				return "", errLoneSurrogate
			}
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out), nil
}

var errLoneSurrogate = errors.New("not JSON: a lone surrogate")

// escaped returns the character that \c stands for.
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

// hexDigit returns -1 if c is not a hexadecimal digit.
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
