package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"keymill/cmd/keymill/internal/terminal"
)

// YAMLText returns a YAML file as UTF-8, or the line and the reason of an error. The library would replace each
// byte that is not UTF-8: another value than the one in the file would be used, and two names could become one.
func YAMLText(raw []byte) (text []byte, line int, err error) {
	text, err = terminal.DecodeText(raw)
	if err != nil {
		return nil, 1, err
	}
	open := 0
	for n, row := range bytes.Split(text, []byte("\n")) {
		if !utf8.Valid(row) {
			return nil, n + 1, errors.New("the text is not UTF-8; save it as UTF-8")
		}
		var marks int
		if open, marks = nesting(row, open); open > maxNesting || marks > maxNesting {
			return nil, n + 1, fmt.Errorf("lists or mappings are nested deeper than %d levels", maxNesting)
		}
	}
	return text, 0, nil
}

// maxNesting is far more than a person writes. The time of the library is quadratic in it: a file of 130 KiB that has only
// "[" would take more than a minute.
const maxNesting = 100

// nesting returns how many brackets are open after a row, if open were before, and how many lists begin in it, as in
// "- - a". It ends at the first bracket too many. Those in quotes and behind a value count too.
func nesting(row []byte, open int) (after, marks int) {
	if bytes.HasPrefix(bytes.TrimLeft(row, " "), []byte("#")) {
		return open, 0
	}
	for _, c := range row {
		switch c {
		case '[', '{':
			open++
		case ']', '}':
			open = max(open-1, 0)
		}
		if open > maxNesting {
			return open, 0
		}
	}
	return open, bytes.Count(row, []byte("- - "))
}

// YAMLFault returns the line and the reason of a syntax error, without the excerpt of the file that the library
// draws: it could have a secret, and an error is one line.
func YAMLFault(err error) (line int, reason string) {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil || y.GetToken().Position == nil {
		return 1, "not YAML"
	}
	visible := strings.NewReplacer("\t", `\t`, "\r", `\r`)
	return y.GetToken().Position.Line, "not YAML: " + visible.Replace(y.GetMessage())
}
