package keystore

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"keymill/keystore/internal/keyfile"
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
		return EdDSA, keyfile.CheckEd25519(k)
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
