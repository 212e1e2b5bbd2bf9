package signing

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
)

// TestSignaturesOfES256Have64Bytes, also those whose r or s begins with a zero: one in 128.
//
// R113.
func TestSignaturesOfES256Have64Bytes(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(key, "ES256", "k")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	zeros := [2]int{}
	for n := 0; n < 200 || n < 20_000 && (zeros[0] == 0 || zeros[1] == 0); n++ {
		token, err := s.Token("ES256", "k", "at+jwt", []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		i := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
		if err != nil || len(signature) != 64 || !verifyES256(&key.PublicKey, []byte(token[:i]), signature) {
			t.Fatalf("%x, %v", signature, err)
		}
		for half := range zeros {
			if signature[32*half] == 0 {
				zeros[half]++
			}
		}
		if seen[token] {
			t.Fatal("two signatures have the same nonce")
		}
		seen[token] = true
	}
	if zeros[0] == 0 || zeros[1] == 0 {
		t.Errorf("of %d signatures %v begin with zero", len(seen), zeros)
	}
}

// TestAKeyOfES256WhoseHalvesDifferIsRefused as those of other algorithms are.
func TestAKeyOfES256WhoseHalvesDifferIsRefused(t *testing.T) {
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	mixed := *keys[0]
	mixed.PublicKey = keys[1].PublicKey
	if _, err := New(&mixed, "ES256", "k"); err == nil {
		t.Error("accepted")
	}
}
