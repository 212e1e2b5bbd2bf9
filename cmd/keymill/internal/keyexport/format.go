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
	Cert Format = "cert" // a self-signed certificate of each key (RFC 7468, section 5)
)

// Formats lists all of them.
var Formats = []Format{JWKS, PEM, Cert}

// setName is the file of the whole set.
const setName = "jwks.json"

// files returns the files of a set: name → content.
func (f Format) files(p Published) (map[string][]byte, error) {
	if f == JWKS {
		return map[string][]byte{setName: document(p.Set)}, nil
	}
	files := map[string][]byte{}
	for _, k := range p.Set.Keys() {
		content, extension, err := f.block(p, k)
		if err != nil {
			return nil, err
		}
		name, err := fileName(k.KID, extension)
		if err != nil {
			return nil, err
		}
		files[name] = content
	}
	return files, nil
}

// text returns the set for standard output, in JSON or as the files have it.
func (f Format) text(p Published, asJSON bool) ([]byte, error) {
	if f == JWKS {
		return document(p.Set), nil
	}
	if asJSON {
		return f.list(p)
	}
	var out bytes.Buffer
	for _, k := range p.Set.Keys() {
		block, _, err := f.block(p, k)
		if err != nil {
			return nil, err
		}
		// Readers of PEM ignore lines between the blocks (RFC 7468, section 2).
		fmt.Fprintf(&out, "# kid %s, %s\n%s", terminal.OneLine(k.KID), k.Alg, block)
	}
	return out.Bytes(), nil
}

// list returns the keys in JSON, each with its PEM.
func (f Format) list(p Published) ([]byte, error) {
	list := []map[string]string{}
	for _, k := range p.Set.Keys() {
		block, _, err := f.block(p, k)
		if err != nil {
			return nil, err
		}
		list = append(list, map[string]string{"kid": k.KID, "alg": k.Alg, "pem": string(block)})
	}
	raw, err := terminal.MarshalJSON(list)
	return append(raw, '\n'), err
}

// block returns one key in PEM, with the extension of its file. A key without a certificate is written as it is.
func (f Format) block(p Published, k jwks.Key) (content []byte, extension string, err error) {
	if text := p.Certificates[k.KID]; f == Cert && text != "" {
		return []byte(text), ".crt", nil
	}
	content, err = publicPEM(k)
	return content, ".pem", err
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
