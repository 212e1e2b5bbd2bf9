// Package keyfile reads the files in which other systems keep a signing key: PEM and JWK. A file in
// another format, such as that of OpenSSH or PuTTY, is an error that names the format and a command
// that converts it. No error quotes the file.
package keyfile

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// ErrFormat means that the file is in no format that this package knows.
var ErrFormat = errors.New("the key is neither PEM (PKCS #8, PKCS #1, SEC 1, SubjectPublicKeyInfo) nor a JWK")

// A Key is a key as it was given.
type Key struct {
	Public  crypto.PublicKey
	Private crypto.Signer // nil if only the public half was given
	KID     string        // of a JWK; "" if it has none
	Alg     string        // of a JWK; "" if it has none
}

// CheckFormat reports whether the key that Import would read from b has a private half. It returns a
// *FormatError if it recognises a format that Import does not take.
func CheckFormat(b []byte) (private bool, err error) {
	key, err := Parse(b)
	return key.Private != nil, err
}

// parseKey parses the key in a PEM file, or a JWK.
func Parse(b []byte) (Key, error) {
	if block, err := choosePEM(b); err != nil {
		return Key{}, err
	} else if block != nil {
		key, err := parsePEM(block)
		if err != nil {
			return Key{}, err
		}
		return fromParsed(key), nil
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return parseJWK(b)
	}
	format := unsupportedDER(b)
	if format == nil {
		format = unsupportedText(b)
	}
	if format == nil {
		return Key{}, ErrFormat
	}
	return Key{}, format
}

// choosePEM returns the one key of a file. A private key may stand between certificates, its own
// parameters and public half, as web servers keep it. It returns nil if the file is not PEM.
func choosePEM(b []byte) (*pem.Block, error) {
	var private, public, others []*pem.Block
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			private = append(private, block)
		case strings.HasSuffix(block.Type, "PUBLIC KEY"):
			public = append(public, block)
		default:
			others = append(others, block)
		}
	}
	found := len(private) + len(public) + len(others)
	if found > 0 && found < bytes.Count(b, []byte("-----BEGIN ")) {
		return nil, damagedPEM // perhaps the key is the part that cannot be read
	}
	keys := private
	if len(keys) == 0 {
		keys = public
	}
	switch {
	case len(keys) > 1:
		return nil, fmt.Errorf("give one key at a time: the file has %d", len(keys))
	case len(keys) == 1:
		return keys[0], nil
	case len(others) > 0:
		return others[0], nil
	}
	return nil, nil
}

// parsePEM does not return the errors of the parsers, which could quote the key.
func parsePEM(block *pem.Block) (any, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, &FormatError{"an encrypted private key (PKCS #1)", opensslKey}
		}
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, &FormatError{"an encrypted EC private key (SEC 1)", opensslKey}
		}
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "OPENSSH PRIVATE KEY":
		return nil, opensshFormat(block.Bytes)
	default:
		if format := unsupportedPEM[block.Type]; format != nil {
			return nil, format
		}
		return nil, ErrFormat
	}
	if err == nil {
		if other := typeOr(key, nil); other != nil {
			return nil, other
		}
		if private, ok := key.(*ecdsa.PrivateKey); ok {
			if fault := checkEmbedded(block.Bytes, private); fault != nil {
				return nil, fault
			}
		}
		return key, nil
	}
	return nil, cmp.Or(unsupportedPKCS8(block.Bytes), sec1Fault(block.Bytes), damagedPEM)
}

func parseJWK(b []byte) (Key, error) {
	if format := unsupportedJSON(b); format != nil {
		return Key{}, format
	}
	var member map[string]json.RawMessage // a struct would also match names in another case
	if json.Unmarshal(b, &member) == nil && string(member["kty"]) == `"EC"` {
		if err := checkJWK(member); err != nil {
			return Key{}, err
		}
	}
	var jwk jose.JSONWebKey
	if json.Unmarshal(b, &jwk) != nil || !jwk.Valid() {
		return Key{}, ErrFormat
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return Key{}, errors.New("the JWK is not for signatures: its use must be sig")
	}
	out := fromParsed(jwk.Key)
	out.KID, out.Alg = jwk.KeyID, jwk.Algorithm
	return out, nil
}

func fromParsed(key any) Key {
	if s, ok := key.(crypto.Signer); ok {
		return Key{Public: s.Public(), Private: s}
	}
	return Key{Public: key}
}
