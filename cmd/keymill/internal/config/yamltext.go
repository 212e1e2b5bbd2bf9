package config

import (
	"bytes"
	"errors"
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
	for n, row := range bytes.Split(text, []byte("\n")) {
		if !utf8.Valid(row) {
			return nil, n + 1, errors.New("the text is not UTF-8; save it as UTF-8")
		}
	}
	return text, 0, nil
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
