package keystore

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

var errKeyFormat = errors.New("the key is neither PEM (PKCS #8, PKCS #1, SubjectPublicKeyInfo) nor a JWK")

// A parsedKey is a key as it was given.
type parsedKey struct {
	public  crypto.PublicKey
	private crypto.Signer // nil if only the public half was given
	kid     string        // of a JWK; "" if it has none
	alg     string        // of a JWK; "" if it has none
}

// CheckFormat reports whether the key that Import would read from b has a private half. It returns a
// *FormatError if it recognises a format that Import does not take.
func CheckFormat(b []byte) (private bool, err error) {
	key, err := parseKey(b)
	return key.private != nil, err
}

// parseKey parses the key in a PEM file, or a JWK.
func parseKey(b []byte) (parsedKey, error) {
	if block, err := choosePEM(b); err != nil {
		return parsedKey{}, err
	} else if block != nil {
		key, err := parsePEM(block)
		if err != nil {
			return parsedKey{}, err
		}
		return newParsedKey(key), nil
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return parseJWK(b)
	}
	format := unsupportedDER(b)
	if format == nil {
		format = unsupportedText(b)
	}
	if format == nil {
		return parsedKey{}, errKeyFormat
	}
	return parsedKey{}, format
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
		return nil, errKeyFormat
	}
	if err == nil {
		if other := typeOr(key, nil); other != nil {
			return nil, other
		}
		return key, nil
	}
	if format := unsupportedPKCS8(block.Bytes); format != nil {
		return nil, format
	}
	return nil, damagedPEM
}

func parseJWK(b []byte) (parsedKey, error) {
	if format := unsupportedJSON(b); format != nil {
		return parsedKey{}, format
	}
	var jwk jose.JSONWebKey
	if json.Unmarshal(b, &jwk) != nil || !jwk.Valid() {
		return parsedKey{}, errKeyFormat
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return parsedKey{}, errors.New("the JWK is not for signatures: its use must be sig")
	}
	out := newParsedKey(jwk.Key)
	out.kid, out.alg = jwk.KeyID, jwk.Algorithm
	return out, nil
}

func newParsedKey(key any) parsedKey {
	if s, ok := key.(crypto.Signer); ok {
		return parsedKey{public: s.Public(), private: s}
	}
	return parsedKey{public: key}
}
