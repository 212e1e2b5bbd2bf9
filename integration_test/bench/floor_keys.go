package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// The audience decides the algorithm, as in Keymill.
const audienceEd, audienceRSA, audienceEC = "bench-eddsa", "bench-rs256", "bench-es256"

// floorKeys are the keys of the floor, which signs as Keymill does.
type floorKeys struct {
	ed  ed25519.PrivateKey
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey

	libcrypto *libcrypto // signs in place of rsa, with the same key; nil if Go signs
}

func newFloorKeys() (k floorKeys, err error) {
	if _, k.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return k, err
	}
	if k.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return k, err
	}
	k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return k, err
}

var (
	// A kid is a thumbprint of 43 characters.
	headerEd  = encode([]byte(`{"alg":"EdDSA","kid":"` + strings.Repeat("k", 43) + `","typ":"at+jwt"}`))
	headerRSA = encode([]byte(`{"alg":"RS256","kid":"` + strings.Repeat("k", 43) + `","typ":"at+jwt"}`))
	headerEC  = encode([]byte(`{"alg":"ES256","kid":"` + strings.Repeat("k", 43) + `","typ":"at+jwt"}`))
)

// has reports whether there is a key for the audience.
func (k floorKeys) has(audience string) bool {
	return audience == audienceEd || audience == audienceRSA || audience == audienceEC
}

// appendToken appends the token with that payload.
func (k floorKeys) appendToken(to []byte, audience string, payload []byte) ([]byte, error) {
	header := headerEd
	switch audience {
	case audienceRSA:
		header = headerRSA
	case audienceEC:
		header = headerEC
	}
	begin := len(to)
	to = append(append(to, header...), '.')
	to = base64.RawURLEncoding.AppendEncode(to, payload)
	signature, err := k.sign(audience, to[begin:])
	return base64.RawURLEncoding.AppendEncode(append(to, '.'), signature), err
}

func (k floorKeys) sign(audience string, input []byte) ([]byte, error) {
	if audience == audienceEd {
		return ed25519.Sign(k.ed, input), nil
	}
	if audience == audienceRSA && k.libcrypto != nil {
		return k.libcrypto.signRS256(input)
	}
	sum := sha256.Sum256(input)
	if audience == audienceRSA {
		return rsa.SignPKCS1v15(nil, k.rsa, crypto.SHA256, sum[:])
	}
	signature, err := ecdsa.SignASN1(rand.Reader, k.ec, sum[:])
	if err != nil {
		return nil, err
	}
	return fromDER(signature), nil
}

// fromDER returns r and s of a signature of crypto/ecdsa in 32 octets each (RFC 7518, section 3.4). Both are shorter than 128
// octets, so a length is one octet.
func fromDER(der []byte) []byte {
	out, rest := make([]byte, 64), der[2:]
	for end := 32; end <= 64; end += 32 {
		n := 2 + int(rest[1])
		number := bytes.TrimLeft(rest[2:n], "\x00")
		copy(out[end-len(number):], number)
		rest = rest[n:]
	}
	return out
}
