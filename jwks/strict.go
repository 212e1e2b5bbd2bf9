package jwks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth bounds the nesting of what strangers send. No claim of ours goes past 3.
const maxDepth = 16

// An object is one JSON object, name → value as written. encoding/json alone would
// let the last of two equal names win, match names whatever their case, and mend
// broken UTF-8: three ways for two readers to see two different tokens.
type object map[string]json.RawMessage

// parseObject reads b as one object without repeated names at its top level. Values
// are checked only by deep, so that a set can judge its keys one by one.
func parseObject(b []byte) (object, error) {
	// The decoder reads tokens more freely than the grammar, so Valid goes first.
	if !utf8.Valid(b) || !json.Valid(b) {
		return nil, errors.New("not JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	found := object{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, errors.New("not JSON")
		}
		name, _ := token.(string) // in a valid object this place holds a string
		if _, twice := found[name]; twice {
			return nil, fmt.Errorf("member %q occurs twice", clip(name))
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, errors.New("not JSON")
		}
		found[name] = value
	}
	return found, nil
}

// deep refuses repeated names at every level below o, and more than maxDepth levels.
func (o object) deep() error { return o.deepAt(1) }

func (o object) deepAt(depth int) error {
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
		return fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	if value[0] == '{' {
		inner, err := parseObject(value)
		if err != nil {
			return err
		}
		return inner.deepAt(depth + 1)
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(value, &elements); err != nil {
		return errors.New("not JSON")
	}
	for _, element := range elements {
		if err := deepValue(element, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// text returns the string under name, and "" where there is none. Anything that is
// not a string, null included, is an error.
func (o object) text(name string) (string, error) {
	value, present := o[name]
	if !present {
		return "", nil
	}
	s, err := asText(value)
	if err != nil {
		return "", fmt.Errorf("%s is %w", name, err)
	}
	return s, nil
}

func asText(value json.RawMessage) (string, error) {
	var s string
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return "", errors.New("not a string")
	}
	return s, nil
}

// asTexts returns the strings of an array of strings, or of one string alone.
func asTexts(value json.RawMessage) ([]string, error) {
	if len(value) > 0 && value[0] == '"' {
		s, err := asText(value)
		return []string{s}, err
	}
	var elements []json.RawMessage
	if len(value) == 0 || value[0] != '[' || json.Unmarshal(value, &elements) != nil {
		return nil, errors.New("neither a string nor an array")
	}
	all := make([]string, 0, len(elements))
	for _, element := range elements {
		s, err := asText(element)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// decodeSegment reads unpadded base64url (RFC 7515, section 2) in its one canonical
// spelling. Go's decoder skips line breaks, even when strict, so the alphabet is
// checked first: two spellings of one token would pass a list of revoked ones.
func decodeSegment(s string) ([]byte, error) {
	for i := range len(s) {
		if !isBase64URL(s[i]) {
			return nil, errors.New("not base64url")
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not canonical base64url")
	}
	return b, nil
}

func isBase64URL(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
