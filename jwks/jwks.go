// Package jwks is all that a stranger needs to trust Keymill's tokens: the set of
// public keys, the handler that publishes it, and the rules that a token must keep.
// It holds no private key, reads no store, needs nothing but the standard library,
// and is, with jwks/grpc, the one package of Keymill that is promised as a library.
//
//	issuer's side                      service's side
//
//	NewSet ──▶ Set ──▶ Handler ──HTTP──▶ Remote ──▶ Verifier ──▶ Guard ──▶ handlers
//	           (RFC 7517)                Fetch      Check        (RFC 6750)
//	                                     Parse      (RFC 9068)
//
// A Remote follows the keys of one issuer, a Verifier checks tokens with them, and a
// Guard stands before the handlers of a service. Below each is what does the same once
// and keeps nothing: Fetch and Parse make a Set, Check judges one token with it.
//
// A Set is immutable: it is sorted by kid and carries its own JSON and ETag, so the
// same keys are the same bytes on every node and after every restart. What is
// published looks like this, and nothing else ever appears in it:
//
//	{"keys":[{"kty":"OKP","kid":"…","use":"sig","alg":"EdDSA","crv":"Ed25519","x":"…"},
//	         {"kty":"RSA","kid":"…","use":"sig","alg":"RS256","n":"…","e":"AQAB"}]}
//
// What is read is judged key by key (RFC 7517, section 5): a member that this package
// does not understand, or will not trust, is left out and the rest stays good. One
// foreign key must not take every login down with it.
//
// One key has one algorithm. RS256 goes with RSA of 2048 to 8192 bits (RFC 7518,
// section 3.3) and an odd exponent from 65537 to 2^31-1, EdDSA with Ed25519 (RFC 8037),
// whose point is written canonically and is not of small order. RFC 9864 calls that
// algorithm "Ed25519"; the name is read as EdDSA, since no other curve is supported that
// it could mean.
//
// Documents are at most 256 KiB, tokens at most 16 KiB; both are measured before
// anything is parsed. JSON is read to the letter of RFC 8259, by a reader that refuses
// what two others could read differently: a name twice in an object of a token or a key,
// broken UTF-8, half a surrogate pair. A token nests at most 16 levels, its header has at
// most 64 members.
//
// A verification costs its signature and about 2 µs; one that a Verifier remembers
// costs about 1 µs. Only an unknown kid, in a token whose form and header are good, is
// a reason to look for newer keys, and only a good token is ever remembered.
//
// Tokens are those of RFC 9068: typ at+jwt, with client_id and exp. Those of an issuer
// that makes others, ID tokens among them, are refused whatever keys they are by.
package jwks

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"
)

// The algorithms of a Key (RFC 7518, section 3.1 and RFC 8037, section 3.1).
const (
	RS256 = "RS256"
	EdDSA = "EdDSA"
)

// Bounds of a key. Above 8192 bits one verification costs whole milliseconds, which
// a stranger could make us spend.
const (
	minRSABits  = 2048
	maxRSABits  = 8192
	maxKIDBytes = 256

	minRSAExponent = 65537
	maxRSAExponent = 1<<31 - 1
)

// A Key is a public key that verifies tokens of one algorithm.
type Key struct {
	KID    string
	Alg    string           // "RS256" or "EdDSA"
	Public crypto.PublicKey // *rsa.PublicKey or ed25519.PublicKey
}

// check says why a key must not be in a Set, whoever put it there.
func (k Key) check() error {
	if k.KID == "" || len(k.KID) > maxKIDBytes || !utf8.ValidString(k.KID) {
		return fmt.Errorf("kid must be 1 to %d bytes of UTF-8", maxKIDBytes)
	}
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		if k.Alg != RS256 {
			return fmt.Errorf("an RSA key verifies RS256, not %q", clip(k.Alg))
		}
		return checkRSA(public)
	case ed25519.PublicKey:
		if k.Alg != EdDSA {
			return fmt.Errorf("an Ed25519 key verifies EdDSA, not %q", clip(k.Alg))
		}
		return checkEd25519(public)
	case crypto.Signer:
		return errors.New("it is a private key")
	}
	return fmt.Errorf("a %T is neither *rsa.PublicKey nor ed25519.PublicKey", k.Public)
}

func checkRSA(public *rsa.PublicKey) error {
	if public == nil || public.N == nil || public.N.Sign() <= 0 {
		return errors.New("the RSA key is empty")
	}
	if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return fmt.Errorf("an RSA key must have %d to %d bits, not %d", minRSABits, maxRSABits, bits)
	}
	if public.N.Bit(0) == 0 {
		return errors.New("the RSA key has an even modulus")
	}
	// With e = 1 every signature would verify; 3 and its like are what forgeries of
	// PKCS #1 v1.5 signatures have needed. More than 31 bits only cost time.
	if public.E < minRSAExponent || public.E > maxRSAExponent || public.E%2 == 0 {
		return fmt.Errorf("an RSA key must have an odd exponent of %d to 2^31-1, not %d", minRSAExponent, public.E)
	}
	return nil
}

// clone keeps a Set immutable while its maker goes on using the key. The kid is copied
// too: it may be a part of a document, all of which it would keep in memory for as long
// as there is the set, or a token that was verified with it.
func (k Key) clone() Key {
	k.KID = strings.Clone(k.KID)
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		k.Public = &rsa.PublicKey{N: new(big.Int).Set(public.N), E: public.E}
	case ed25519.PublicKey:
		k.Public = append(ed25519.PublicKey(nil), public...)
	}
	return k
}

// canonicalAlg folds the two names of Ed25519 signatures into one. Names are
// case-sensitive (RFC 7515, section 4.1.1).
func canonicalAlg(name string) string {
	if name == "Ed25519" {
		return EdDSA
	}
	return name
}

// clip cuts a text of any length and origin for an error message or a Failure.
func clip(s string) string {
	const longest = 100
	if len(s) <= longest {
		return s
	}
	cut := longest
	for cut > longest-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut-- // not in the middle of a character
	}
	return s[:cut] + "…"
}
