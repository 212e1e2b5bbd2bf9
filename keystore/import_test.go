package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"keymill/keystore/internal/keyfile"
	"keymill/keystore/internal/keytype"
	"keymill/storage"
)

func pemOf(t *testing.T, kind string, key any) []byte {
	t.Helper()
	var der []byte
	var err error
	switch kind {
	case "PRIVATE KEY":
		der, err = x509.MarshalPKCS8PrivateKey(key)
	case "RSA PRIVATE KEY":
		der = x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))
	default:
		der, err = x509.MarshalPKIXPublicKey(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func jwkOf(key ed25519.PrivateKey, kid string) []byte {
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Appendf(nil, `{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q,"d":%q}`, kid, b64(key[32:]), b64(key[:32]))
}

func TestAnImportedKeyKeepsItsKid(t *testing.T) {
	key := edKey(t)
	thumb, _ := keytype.Thumbprint(key.Public())
	for _, tt := range []struct {
		name  string
		req   ImportRequest
		kid   string
		stage Stage
	}{
		{"a JWK as spare", ImportRequest{Key: jwkOf(key, "theirs/1")}, "theirs/1", Spare},
		{"a JWK under another kid", ImportRequest{Key: jwkOf(key, "theirs"), KID: "ours"}, "ours", Spare},
		{"a JWK that says Ed25519", ImportRequest{Key: bytes.Replace(jwkOf(key, "new"), []byte(`{`), []byte(`{"alg":"Ed25519",`), 1)}, "new", Spare},
		{"PEM, signing now", ImportRequest{Key: pemOf(t, "PRIVATE KEY", key), SignNow: true}, thumb, Active},
		{"PEM, verifying only", ImportRequest{Key: pemOf(t, "PUBLIC KEY", key.Public()), KID: "old", Until: time.Now().Add(time.Hour)}, "old", Retiring},
	} {
		r, _ := newRings(t)
		got, err := r.Import(t.Context(), tt.req, "test")
		if err != nil || got.KID != tt.kid || got.Stage != tt.stage {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
			continue
		}
		published := false
		for _, k := range r.Published() {
			published = published || k.KID == tt.kid && k.Public.(ed25519.PublicKey).Equal(key.Public())
		}
		if !published {
			t.Errorf("%s: the key is not published", tt.name)
		}
		if tt.stage == Active {
			token, err := r.Sign(t.Context(), EdDSA, "at+jwt", nil, r.Now())
			header, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
			if err != nil || !strings.Contains(string(header), tt.kid) {
				t.Errorf("%s: the token has header %s, %v", tt.name, header, err)
			}
		}
	}
}

func TestRSAKeysAreImportedFromEitherEncoding(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"PRIVATE KEY", "RSA PRIVATE KEY"} {
		got, err := keyfile.Parse(pemOf(t, kind, key))
		if err != nil || got.Private == nil || !key.PublicKey.Equal(got.Public) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestBadImportsAreRefusedWithAReason(t *testing.T) {
	r, s := newRings(t)
	key := edKey(t)
	good := pemOf(t, "PRIVATE KEY", key)
	strong, _ := rsa.GenerateKey(rand.Reader, 2048)
	weak := &rsa.PublicKey{N: rsaModulus(1024), E: 65537}
	ec, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	active := stage(t, r, Active)
	later := time.Now().Add(time.Hour)
	for name, tt := range map[string]struct {
		req    ImportRequest
		reason string
	}{
		"garbage":                             {ImportRequest{Key: []byte("garbage")}, "neither PEM"},
		"an empty JWK":                        {ImportRequest{Key: []byte("{}")}, "neither PEM"},
		"two keys":                            {ImportRequest{Key: append(good, good...)}, "one key at a time"},
		"weak RSA":                            {ImportRequest{Key: pemOf(t, "PUBLIC KEY", weak), Until: later}, "bits"},
		"an even modulus":                     {ImportRequest{Key: pemOf(t, "PUBLIC KEY", &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}), Until: later}, "even"},
		"an empty Ed25519":                    {ImportRequest{Key: pemOf(t, "PUBLIC KEY", make(ed25519.PublicKey, 32)), Until: later}, "anyone"},
		"the neutral Ed25519":                 {ImportRequest{Key: pemOf(t, "PUBLIC KEY", ed25519.PublicKey(append([]byte{1}, make([]byte, 31)...))), Until: later}, "anyone"},
		"a y above the prime":                 {ImportRequest{Key: pemOf(t, "PUBLIC KEY", ed25519.PublicKey(append([]byte{0xf0}, bytes.Repeat([]byte{0xff}, 31)...))), Until: later}, "canonical"},
		"a huge exponent":                     {ImportRequest{Key: pemOf(t, "PUBLIC KEY", &rsa.PublicKey{N: rsaModulus(2048), E: 1<<31 + 1}), Until: later}, "exponent"},
		"an EC key on P-384":                  {ImportRequest{Key: pemOf(t, "PRIVATE KEY", ec)}, "only RSA, Ed25519 and P-256"},
		"another algorithm":                   {ImportRequest{Key: good, Alg: RS256}, "is for EdDSA"},
		"an algorithm that is not configured": {ImportRequest{Key: pemOf(t, "PUBLIC KEY", strong.Public()), Until: later}, "keys.algorithms"},
		"only the public half":                {ImportRequest{Key: pemOf(t, "PUBLIC KEY", key.Public())}, "public half"},
		"until and sign now":                  {ImportRequest{Key: good, Until: later, SignNow: true}, "not both"},
		"until in the past":                   {ImportRequest{Key: good, Until: time.Now().Add(-time.Hour)}, "past"},
		"a kid that is used":                  {ImportRequest{Key: good, KID: active}, "already used"},
		"a kid with a space":                  {ImportRequest{Key: good, KID: "a b"}, "visible ASCII"},
		"a long kid":                          {ImportRequest{Key: good, KID: strings.Repeat("k", 201)}, "characters"},
		"too many bytes":                      {ImportRequest{Key: make([]byte, maxImportBytes+1)}, "bytes"},
		"halves that differ":                  {ImportRequest{Key: mixed(t)}, ""},
	} {
		var bad *InvalidError
		if _, err := r.Import(t.Context(), tt.req, "test"); !errors.As(err, &bad) || !strings.Contains(bad.Description, tt.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.Import(t.Context(), ImportRequest{Key: good, KID: "once"}, "test"); err != nil {
		t.Fatal(err)
	}
	for kid, reason := range map[string]string{"once": `under the kid "once"; nothing was changed`, "twice": `under the kid "once"; a key has only one kid`} {
		var bad *InvalidError
		if _, err := r.Import(t.Context(), ImportRequest{Key: good, KID: kid}, "test"); !errors.As(err, &bad) || !strings.Contains(bad.Description, reason) {
			t.Errorf("importing the key again as %s: %v", kid, err)
		}
	}
	if _, err := r.Revoke(t.Context(), RevokeRequest{KID: "once"}, "test"); err != nil {
		t.Fatal(err)
	}
	var bad *InvalidError
	if _, err := r.Import(t.Context(), ImportRequest{Key: good, KID: "once"}, "test"); !errors.As(err, &bad) || bad.Code != "already_exists" {
		t.Errorf("importing a revoked kid: %v", err)
	}
	if _, err := r.Import(t.Context(), ImportRequest{Key: good, KID: "again"}, "test"); !errors.As(err, &bad) || !strings.Contains(bad.Description, "revoked") {
		t.Errorf("importing a revoked key under another kid: %v", err)
	}
	_ = s.View(t.Context(), func(tx storage.Reader) error {
		if _, err := tx.Get(privateKey("once")); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("reading the private half of the revoked key: %v", err)
		}
		return nil
	})
}

// mixed returns a JWK whose halves belong to different keys.
func mixed(t *testing.T) []byte {
	a, b := edKey(t), edKey(t)
	copy(a[32:], b[32:])
	return jwkOf(a, "mixed")
}

// rsaModulus returns an odd number of that many bits. Only its size matters.
func rsaModulus(bits uint) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return n.Add(n, big.NewInt(1))
}
