// Package keytype knows the types of keys that a ring can have: how a key is made, encoded and named, and how
// much room it takes in the published set.
package keytype

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
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
	ES256 = "ES256"
)

// algorithms lists every algorithm that a ring can have. What depends on the algorithm is a column here, so that
// no list of algorithms is written a second time.
var algorithms = []struct {
	name     string
	generate func() (crypto.Signer, error)
	members  int // octets of the public members of a key that we make, such as n or x
}{
	{EdDSA, generateEd25519, ed25519.PublicKeySize},
	{RS256, generateRSA, RSABits / 8},
	{ES256, generateP256, 2 * 32},
}

// RSABits is the size of the RSA keys that we make. 3072 bits would double the time to verify and
// multiply the time to sign by five, for keys that sign for a month.
const RSABits = 2048

func generateRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, RSABits) }

func generateEd25519() (crypto.Signer, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return k, err
}

func generateP256() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// Algorithms returns every algorithm that a ring can have, configured or not.
func Algorithms() []string {
	names := make([]string, 0, len(algorithms)) // each refresh asks
	for _, a := range algorithms {
		names = append(names, a.name)
	}
	return names
}

// Check returns an error if a ring cannot have the algorithm.
func Check(alg string) error {
	if !slices.Contains(Algorithms(), alg) {
		return fmt.Errorf("algorithm %q is not supported; choose from %s", alg, strings.Join(Algorithms(), ", "))
	}
	return nil
}

// Generate makes a key pair.
func Generate(alg string) (crypto.Signer, error) {
	for _, a := range algorithms {
		if a.name == alg {
			return a.generate()
		}
	}
	return nil, Check(alg)
}

// Of returns the algorithm of a public key.
func Of(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return EdDSA, nil
	case *rsa.PublicKey:
		return RS256, nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return ES256, nil
		}
	}
	return "", errors.New("the key type is not supported; only RSA, Ed25519 and P-256 keys can sign")
}
