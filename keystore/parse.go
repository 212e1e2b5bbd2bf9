package keystore

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"

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

// parseKey parses a PEM block or a JWK.
func parseKey(b []byte) (parsedKey, error) {
	if block, rest := pem.Decode(b); block != nil {
		if len(bytes.TrimSpace(rest)) > 0 {
			return parsedKey{}, errors.New("give one key at a time: there is more text after the first PEM block")
		}
		key, err := parsePEM(block)
		if err != nil {
			return parsedKey{}, err
		}
		return newParsedKey(key), nil
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

// parsePEM does not return the errors of the parsers, which could quote the key.
func parsePEM(block *pem.Block) (any, error) {
	switch block.Type {
	case "PRIVATE KEY":
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
	case "RSA PRIVATE KEY":
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
	case "PUBLIC KEY":
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			return key, nil
		}
	case "RSA PUBLIC KEY":
		if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
			return key, nil
		}
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted; decrypt it first (openssl pkey -in FILE)")
	}
	return nil, errKeyFormat
}
