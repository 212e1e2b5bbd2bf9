package keyexport

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

// A Format says how keys are written.
type Format string

// The formats.
const (
	JWKS Format = "jwks" // one key set in JSON (RFC 7517)
	PEM  Format = "pem"  // SubjectPublicKeyInfo of each key (RFC 7468, section 13)
)

// Formats lists all of them.
var Formats = []Format{JWKS, PEM}

// setName is the file of the whole set.
const setName = "jwks.json"

// files returns the files of a set: name → content.
func (f Format) files(set *jwks.Set) (map[string][]byte, error) {
	if f == JWKS {
		return map[string][]byte{setName: document(set)}, nil
	}
	files := map[string][]byte{}
	for _, k := range set.Keys() {
		name, err := fileName(k.KID, ".pem")
		if err != nil {
			return nil, err
		}
		if files[name], err = publicPEM(k); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// text returns the set for standard output.
func (f Format) text(set *jwks.Set) ([]byte, error) {
	if f == JWKS {
		return document(set), nil
	}
	var out bytes.Buffer
	for _, k := range set.Keys() {
		block, err := publicPEM(k)
		if err != nil {
			return nil, err
		}
		// Readers of PEM ignore lines between the blocks (RFC 7468, section 2).
		fmt.Fprintf(&out, "# kid %s, %s\n%s", terminal.OneLine(k.KID), k.Alg, block)
	}
	return out.Bytes(), nil
}

func document(set *jwks.Set) []byte { return append(set.JSON(), '\n') }

func publicPEM(k jwks.Key) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", terminal.Printable(k.KID), err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// longestName is below the 255 bytes that file systems allow.
const longestName = 240

// plainBytes are those that stand for themselves in the name of a file.
const plainBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

// fileName returns the name of a key's file. The kid of another issuer can be any text. A byte that is not a letter
// or a digit of ASCII, "-", "_" or "." is written as % and two hexadecimal digits, and so is "." at the beginning. So two
// kids never have the same name, none leaves the directory, and none is hidden.
func fileName(kid, extension string) (string, error) {
	var name strings.Builder
	for i := range len(kid) {
		if c := kid[i]; strings.IndexByte(plainBytes, c) < 0 || i == 0 && c == '.' {
			fmt.Fprintf(&name, "%%%02X", c)
		} else {
			name.WriteByte(c)
		}
	}
	name.WriteString(extension)
	if name.Len() > longestName {
		return "", terminal.WithHint(fmt.Errorf("the kid %s is too long for the name of a file", terminal.Printable(kid)), "write the set into one file: --format jwks")
	}
	return name.String(), nil
}

// isOurName reports whether an export can have written a file of that name.
func isOurName(name string) bool {
	return name != "" && name[0] != '.' && strings.Trim(name, plainBytes+"%") == ""
}
