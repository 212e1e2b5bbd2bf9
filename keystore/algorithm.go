package keystore

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The algorithms of rings (RFC 7518, section 3.1, and RFC 8037, section 3.1).
const (
	RS256 = "RS256"
	EdDSA = "EdDSA"
)

// SupportedAlgorithms returns every algorithm that a ring can have, configured or not.
func SupportedAlgorithms() []string { return []string{EdDSA, RS256} }

func checkAlgorithm(alg string) error {
	if !slices.Contains(SupportedAlgorithms(), alg) {
		return fmt.Errorf("algorithm %q is not supported; choose from %s", alg, strings.Join(SupportedAlgorithms(), ", "))
	}
	return nil
}

// rsaBits is the size of the RSA keys that we make. 3072 bits would double the time to verify and
// multiply the time to sign by five, for keys that sign for a month.
const rsaBits = 2048

// generate makes a key pair.
func generate(alg string) (crypto.Signer, error) {
	switch alg {
	case RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case EdDSA:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	}
	return nil, checkAlgorithm(alg)
}

// algorithmOf returns the algorithm of a public key. It refuses weak keys.
func (r *Rings) algorithmOf(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return EdDSA, checkEd25519(k)
	case *rsa.PublicKey:
		return RS256, r.checkRSA(k)
	}
	return "", errors.New("the key type is not supported; only RSA and Ed25519 keys can sign")
}

// checkRSA refuses a weak key, also one that shares a prime with a published key.
func (r *Rings) checkRSA(k *rsa.PublicKey) error {
	if r.cfg.CheckRSA == nil {
		return errors.New("RSA keys cannot be imported, because keystore.Config has no CheckRSA")
	}
	var others []*rsa.PublicKey
	for _, published := range r.Published() {
		if other, ok := published.Public.(*rsa.PublicKey); ok {
			others = append(others, other)
		}
	}
	return r.cfg.CheckRSA(k, others...)
}

// checkEd25519 refuses keys that a verifier must not accept. Package jwks leaves the same
// keys out of a set; this package cannot use its check, because jwks links net/http.
func checkEd25519(k ed25519.PublicKey) error {
	switch {
	case len(k) != ed25519.PublicKeySize:
		return fmt.Errorf("the Ed25519 public key has %d bytes, expected %d", len(k), ed25519.PublicKeySize)
	case !canonical(k):
		return errors.New("the Ed25519 public key is not canonical (RFC 8032, section 5.1.3); no key generator makes such a key")
	case forgeable(k):
		return errors.New("the Ed25519 public key has a small order, so anyone can sign for it; no key generator makes such a key")
	}
	return nil
}

// canonical reports whether y is below the prime 2^255 - 19 (RFC 8032, section 5.1.3).
// crypto/ed25519 does not check that. A point with a larger y has a second encoding, so one
// key would have two thumbprints.
func canonical(k ed25519.PublicKey) bool {
	y := slices.Clone(k)
	y[31] &= 0x7f // without the sign of x
	slices.Reverse(y)
	prime := append([]byte{0x7f}, bytes.Repeat([]byte{0xff}, 31)...)
	prime[31] = 0xed
	return bytes.Compare(y, prime) < 0
}

// forgeable tries to sign without the private half. For a key of small order the signature
// of the neutral point and zero is valid for at least every eighth message. For any other
// key it is valid for none, so 256 messages are enough to be certain.
func forgeable(k ed25519.PublicKey) bool {
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1 // R is the neutral point, S is 0
	for message := range 256 {
		if ed25519.Verify(k, []byte{byte(message)}, forged) {
			return true
		}
	}
	return false
}
