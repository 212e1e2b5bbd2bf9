package keystore

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"

	"keymill/keystore/internal/keyfile"
	"keymill/keystore/internal/keytype"
)

// The algorithms of rings.
const (
	RS256 = keytype.RS256
	EdDSA = keytype.EdDSA
	ES256 = keytype.ES256
)

// SupportedAlgorithms returns every algorithm that a ring can have, configured or not.
func SupportedAlgorithms() []string { return keytype.Algorithms() }

// algorithmOf returns the algorithm of a public key. It refuses weak keys.
func (r *Rings) algorithmOf(public crypto.PublicKey) (string, error) {
	alg, err := keytype.Of(public)
	if err != nil {
		return "", err
	}
	switch k := public.(type) {
	case ed25519.PublicKey:
		err = keyfile.CheckEd25519(k)
	case *rsa.PublicKey:
		err = r.checkRSA(k)
	}
	return alg, err
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
