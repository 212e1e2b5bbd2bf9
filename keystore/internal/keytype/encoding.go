package keytype

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"

	"github.com/go-jose/go-jose/v4"
)

// Thumbprint returns the SHA-256 thumbprint of a key (RFC 7638). It is the kid of the keys
// that we make.
func Thumbprint(public crypto.PublicKey) (string, error) {
	jwk := jose.JSONWebKey{Key: public}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// MarshalPublic encodes a public half as SubjectPublicKeyInfo.
func MarshalPublic(public crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(public) }

// ParsePublic reads what MarshalPublic has written.
func ParsePublic(der []byte) (crypto.PublicKey, error) { return x509.ParsePKIXPublicKey(der) }

// MarshalPrivate encodes a private half as PKCS #8.
func MarshalPrivate(key crypto.Signer) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(key) }

// ParsePrivate reads what MarshalPrivate has written.
func ParsePrivate(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the private key is unreadable") // err could quote the key
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign")
	}
	return s, nil
}
