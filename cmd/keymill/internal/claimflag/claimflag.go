// Package claimflag reads claims that an operator types: NAME=VALUE in a flag, or a file of an audience.
package claimflag

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// Parse reads claims of a user as NAME=VALUE: role=admin, level=3, teams=["a","b"]. A value that is JSON
// is taken as JSON, and any other as a string.
func Parse(words []string) (api.Claims, error) { return parse(words, json.Valid) }

// ParseFlat reads claims of a client. They have no objects, so a value in braces is a string as well.
func ParseFlat(words []string) (api.Claims, error) {
	return parse(words, func(value []byte) bool {
		return json.Valid(value) && !bytes.HasPrefix(bytes.TrimSpace(value), []byte("{"))
	})
}

func parse(words []string, isJSON func(value []byte) bool) (api.Claims, error) {
	claims := api.Claims{}
	for _, word := range words {
		if word == "" {
			continue // --claim "" removes all
		}
		name, text, ok := strings.Cut(word, "=")
		switch {
		case !ok || name == "":
			return nil, terminal.WithHint(terminal.Usage("--claim %q is not NAME=VALUE", word), "--claim role=admin")
		case !utf8.ValidString(word):
			return nil, terminal.Usage("--claim %q is not UTF-8", word)
		case claims[name] != nil:
			return nil, terminal.Usage("--claim %s is given twice", name)
		}
		value := []byte(text)
		if !isJSON(value) {
			var err error
			if value, err = terminal.MarshalJSON(text); err != nil {
				return nil, err
			}
		}
		claims[name] = value
	}
	return claims, nil
}

// A File is what a file says about the claims in the tokens of an audience.
type File struct {
	Claims api.Claims   `json:"claims"`
	Map    api.ClaimMap `json:"map"`
}

// maxFileBytes is far above what the server accepts.
const maxFileBytes = 64 << 10

const fileHint = `write JSON such as {"claims": {"policy": "readwrite"}, "map": {"groups": "teams"}}; both members may be left out`

// Read reads a File. What it does not say is empty and never nil.
func Read(path string) (File, error) {
	raw, err := namedfile.Read(path, maxFileBytes)
	if err != nil {
		return File{}, namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToRead}, fmt.Errorf("read claims: %w", err))
	}
	f := File{Claims: api.Claims{}, Map: api.ClaimMap{}}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err = d.Decode(&f); err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the JSON object")
		}
	}
	if err == nil && (f.Claims == nil || f.Map == nil) {
		err = errors.New("claims and map must be objects, not null")
	}
	if err != nil {
		return File{}, terminal.WithHint(fmt.Errorf("%s: %w", path, err), "%s", fileHint)
	}
	return f, nil
}
