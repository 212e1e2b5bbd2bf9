// Package keyimport reads the key file of another system, and refuses what the server cannot import.
package keyimport

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
)

// Check refuses a format that the server does not take, and says how to convert it. It knows the
// name of the file, and not all of the formats can be sent to the server.
func Check(key, name string, verifyOnly bool) error {
	file, word := name, terminal.ShellWord(name)
	if name == "-" {
		file, word = "standard input", "FILE"
	}
	private, err := keystore.CheckFormat([]byte(key))
	var format *keystore.FormatError
	switch {
	case errors.As(err, &format) && format.Convert != "":
		return terminal.WithHint(fmt.Errorf("%s is %s", file, format.Format), "to convert it: %s", strings.ReplaceAll(format.Convert, "FILE", word))
	case errors.As(err, &format):
		return fmt.Errorf("%s is %s", file, format.Format)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	case !private && !verifyOnly:
		return terminal.WithHint(fmt.Errorf("%s has only a public key, which cannot sign", file),
			"to verify with it until all its tokens have expired: keymill key import %s --until 2027-01-31T00:00:00Z", word)
	}
	return nil
}

// maxBytes is far more than an RSA key of 8,192 bits in PEM needs.
const maxBytes = 32 << 10

// Read returns the text of the file with that name, or of in if name is "-".
func Read(in io.Reader, name string) (string, error) {
	if name == "-" {
		name = "standard input"
	} else {
		f, err := namedfile.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(terminal.NewTextReader(in), maxBytes+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if len(raw) > maxBytes {
		return "", fmt.Errorf("%s is too long for a key (over %d bytes)", name, maxBytes)
	}
	if len(raw) == 0 { // usually because the command before the pipe failed
		return "", fmt.Errorf("%s is empty", name)
	}
	return string(raw), nil
}
