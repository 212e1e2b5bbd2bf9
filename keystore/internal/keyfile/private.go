package keyfile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"

	"keymill/keystore/randomness"
)

// CheckPrivate looks at what only the private half of an imported key shows: the secret of an Ed25519 or EC key, and
// the factors of an RSA modulus.
// CheckRSA has accepted the public half. Validate checks that the factors make the modulus, that d and the
// values of the Chinese remainder theorem fit them, that d is larger than the root of the modulus, and that
// two primes are as distant as FIPS 186-5 requires.
//
// Section A.1.1 of it also requires primes of half the length of the modulus, each of at least √2 times
// the power of two below. Well-known programs make others: Java 8 does not look at √2, and python-rsa
// makes one prime longer and one shorter by a thirty-second part of the modulus. None of this helps to
// factor the modulus, so both are accepted.
func CheckPrivate(private crypto.Signer) error {
	switch key := private.(type) {
	case *rsa.PrivateKey:
		return checkPrimes(key)
	case ed25519.PrivateKey:
		return checkSeed(key)
	case *ecdsa.PrivateKey:
		return checkScalar(key)
	}
	return fmt.Errorf("a private key of the type %T is not supported", private)
}

func checkPrimes(key *rsa.PrivateKey) error {
	if len(key.Primes) != 2 {
		return fmt.Errorf("the RSA modulus has %d prime factors; only keys with two are imported", len(key.Primes))
	}
	bits := key.N.BitLen()
	least := bits * 7 / 16
	for _, prime := range key.Primes {
		if prime.BitLen() < least {
			return fmt.Errorf("the RSA modulus of %d bits has a factor of %d bits; both must have at least %d", bits, prime.BitLen(), least)
		}
		if !prime.ProbablyPrime(primeRounds) {
			return errors.New("a factor of the RSA modulus is not a prime, so the modulus has more than two")
		}
	}
	return key.Validate()
}

// primeRounds are those of Miller and Rabin, after the test of Baillie, PSW and no known composite passes
// the latter.
const primeRounds = 4

// checkSeed refuses an Ed25519 key whose secret can be guessed: it is 32 bytes that any program takes, also
// zeros, a text, or those of RFC 8032. Anyone who guesses it signs in the name of the key.
func checkSeed(key ed25519.PrivateKey) error {
	if fault := randomness.Fault([randomness.Size]byte(key.Seed()), false); fault != "" {
		return fmt.Errorf("the secret of the Ed25519 key was not drawn at random: %s; make a new key", fault)
	}
	return nil
}
