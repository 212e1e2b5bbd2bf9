package keyfile

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"testing"
)

func edKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pemOf encodes a private key as PKCS #8 and a public one as SubjectPublicKeyInfo.
func pemOf(t *testing.T, kind string, key any) []byte {
	t.Helper()
	encode := x509.MarshalPKIXPublicKey
	if kind == "PRIVATE KEY" {
		encode = x509.MarshalPKCS8PrivateKey
	}
	der, err := encode(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func jwkOf(key ed25519.PrivateKey, kid string) []byte {
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Appendf(nil, `{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q,"d":%q}`, kid, b64(key[32:]), b64(key[:32]))
}
