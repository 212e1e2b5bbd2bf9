// Package jwks verifies access tokens: it has the set of public keys, a handler that publishes
// it, a client that keeps a copy up to date, and the checks of tokens. It holds no private
// key, opens no store and needs only the standard library. This package and jwks/grpc are the
// only packages of Keymill that are meant to be used as a library.
//
//	issuer's side                      service's side
//
//	NewSet ──▶ Set ──▶ Handler ──HTTP──▶ Remote ──▶ Verifier ──▶ Guard ──▶ handlers
//	           (RFC 7517)                Fetch      Check        (RFC 6750)
//	                                     Parse      (RFC 9068)
//
// A Remote keeps the keys of one issuer up to date, a Verifier checks tokens with them, and a
// Guard protects the handlers of a service. The functions below them in the picture do the
// same work once, without state: Fetch and Parse return a Set, and Check checks one token.
//
// A token that is refused is a *Failure: which Step refused it, what the step expected and
// what it found. It wraps one of the errors of this package, such as ErrExpired.
//
// A Set is immutable. It is sorted by kid and holds its JSON and its ETag, so the same keys
// are the same bytes on every node and after every restart. This is all that is published:
//
//	{"keys":[{"kty":"OKP","kid":"…","use":"sig","alg":"EdDSA","crv":"Ed25519","x":"…"},
//	         {"kty":"RSA","kid":"…","use":"sig","alg":"RS256","n":"…","e":"AQAB"}]}
//
// Parse decides about each key on its own (RFC 7517, section 5). A key that this package does
// not understand or does not trust is left out, and the others are used. Otherwise one key of
// an unknown type would make every login fail. Set.Skipped says what was left out.
//
// One key has one algorithm. RS256 needs an RSA key of 2048 to 8192 bits (RFC 7518, section
// 3.3) with an odd exponent from 65537 to 2^31-1, and a modulus that CheckRSA accepts. ES256 needs a point of P-256 (RFC
// 7518, section 3.4). EdDSA needs an Ed25519 key (RFC 8037) whose point has the canonical encoding and not a small order.
// RFC 9864 calls that algorithm "Ed25519". That name is read as EdDSA, since no other curve is supported.
//
// Documents are at most 256 KiB and tokens at most 16 KiB long. Both are measured before they
// are parsed. JSON is read strictly (RFC 8259): two readers could understand a repeated
// member, broken UTF-8 or a lone surrogate differently, so each of them is refused. A token
// nests at most 16 levels, and its header has at most 64 members.
//
// To verify a token takes the time of its signature and about 2 µs. A token that the Verifier
// has in its cache takes about 1 µs. A Remote looks for newer keys only if a token with a
// correct form and header has an unknown kid, and only valid tokens are cached.
//
// Tokens are those of RFC 9068: their typ is at+jwt, and they have client_id and exp. Tokens
// of other kinds, ID tokens among them, are refused whatever key signed them. A service whose
// audience has the type JWT, as some software needs, says so with VerifierConfig.Type.
package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"
)

// The algorithms of a Key (RFC 7518, section 3.1, and RFC 8037, section 3.1).
const (
	RS256 = "RS256"
	EdDSA = "EdDSA"
	ES256 = "ES256"
)

// algorithms lists every algorithm that a Key can have.
var algorithms = [...]string{RS256, EdDSA, ES256}

// Algorithms returns every algorithm that this package verifies.
func Algorithms() []string { return slices.Clone(algorithms[:]) }

const maxKIDBytes = 256

// A Key is a public key that verifies tokens of one algorithm.
type Key struct {
	KID    string           // 1 to 256 bytes, unique in its set
	Alg    string           // one of Algorithms
	Public crypto.PublicKey // *rsa.PublicKey, ed25519.PublicKey or *ecdsa.PublicKey
}

// check returns an error if a key must not be in a Set, wherever it comes from. It does not look
// at the modulus of an RSA key, see moduli.
func (k Key) check() error {
	if k.KID == "" || len(k.KID) > maxKIDBytes || !utf8.ValidString(k.KID) {
		return fmt.Errorf("kid must be 1 to %d bytes of UTF-8", maxKIDBytes)
	}
	switch k.Public.(type) {
	case *rsa.PublicKey:
		if k.Alg != RS256 {
			return fmt.Errorf("an RSA key verifies RS256, not %q", clip(k.Alg))
		}
	case ed25519.PublicKey:
		if k.Alg != EdDSA {
			return fmt.Errorf("an Ed25519 key verifies EdDSA, not %q", clip(k.Alg))
		}
	case *ecdsa.PublicKey:
		if k.Alg != ES256 {
			return fmt.Errorf("an EC key verifies ES256, not %q", clip(k.Alg))
		}
	}
	return checkPublic(k.Public)
}

// checkPublic checks the key itself, without its name, algorithm and modulus.
func checkPublic(public crypto.PublicKey) error {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return checkRSAForm(public)
	case ed25519.PublicKey:
		return checkEd25519(public)
	case *ecdsa.PublicKey:
		return checkP256(public)
	case crypto.Signer:
		return errors.New("it is a private key")
	}
	return fmt.Errorf("a %T is not *rsa.PublicKey, ed25519.PublicKey or *ecdsa.PublicKey", public)
}

// clone returns a copy, so that a Set stays immutable if the caller changes its key. It
// copies the kid too: a kid that is a part of a document would keep the whole document in
// memory as long as the set, or as long as a cached token that was verified with it.
func (k Key) clone() Key {
	k.KID = strings.Clone(k.KID)
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		k.Public = &rsa.PublicKey{N: new(big.Int).Set(public.N), E: public.E}
	case ed25519.PublicKey:
		k.Public = append(ed25519.PublicKey(nil), public...)
	case *ecdsa.PublicKey:
		k.Public = clonedP256(public)
	}
	return k
}

// canonicalAlg maps both names of Ed25519 signatures to EdDSA. Names are case-sensitive (RFC
// 7515, section 4.1.1).
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
