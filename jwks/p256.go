package jwks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"keymill/jwks/internal/strictjson"
)

// p256Bytes is the size of a coordinate of P-256, and of each half of a signature of ES256.
const p256Bytes = 32

// readP256 reads crv, x and y (RFC 7518, section 6.2.1). Both coordinates have all their octets, leading zeros
// included, so that a key has one encoding and one thumbprint. A point that is compressed, at infinity or not on
// the curve has no place there: with such a point a signature would prove nothing.
func readP256(member strictjson.Object) (*ecdsa.PublicKey, error) {
	curve, err := member.Text("crv")
	if err != nil {
		return nil, err
	}
	if curve != "P-256" {
		return nil, fmt.Errorf("crv %q is not supported", clip(curve))
	}
	point := []byte{4} // uncompressed (SEC 1, section 2.3.3)
	for _, name := range []string{"x", "y"} {
		coordinate, err := readBytes(member, name, p256Bytes)
		if err != nil {
			return nil, err
		}
		if len(coordinate) != p256Bytes {
			return nil, fmt.Errorf("%s must have %d octets, not %d", name, p256Bytes, len(coordinate))
		}
		point = append(point, coordinate...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errNotOnCurve
	}
	return public, nil
}

var errNotOnCurve = errors.New("the EC key is not a point of P-256")

// checkP256 refuses other curves, and points that are not on the curve.
func checkP256(public *ecdsa.PublicKey) error {
	if public == nil || public.Curve != elliptic.P256() {
		return errors.New("an EC key must be on the curve P-256")
	}
	if *public == (ecdsa.PublicKey{Curve: elliptic.P256()}) {
		return errors.New("the EC key is empty")
	}
	if _, err := public.Bytes(); err != nil { // checks the point
		return errNotOnCurve
	}
	return nil
}

// p256Members returns x and y of a key that checkP256 accepts, with their leading zeros.
func p256Members(public *ecdsa.PublicKey) (x, y string) {
	point := p256Point(public)
	return base64.RawURLEncoding.EncodeToString(point[1 : 1+p256Bytes]), base64.RawURLEncoding.EncodeToString(point[1+p256Bytes:])
}

// p256Point returns the point of a key that checkP256 accepts, uncompressed.
func p256Point(public *ecdsa.PublicKey) []byte {
	point, err := public.Bytes()
	if err != nil {
		panic("jwks: " + err.Error()) // only for another curve
	}
	return point
}

// clonedP256 returns a copy of a key that checkP256 accepts.
func clonedP256(public *ecdsa.PublicKey) *ecdsa.PublicKey {
	out, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), p256Point(public))
	if err != nil {
		panic("jwks: " + err.Error())
	}
	return out
}

// signedES256 reports whether signature is one of text: r and s of 32 octets each, both in [1, n-1] (RFC 7518,
// section 3.4). A signature in DER, or with one octet more or less, is none.
//
// If (r, s) is a signature, so is (r, n-s): anyone can turn a valid token into another one that is valid too. The RFC
// requires neither form, and signers make both. So the bytes of a token identify nothing; its jti does. The cache of a
// Verifier may use the bytes as its key, because it remembers only that these bytes were verified.
func signedES256(public *ecdsa.PublicKey, text string, signature []byte) bool {
	if len(signature) != 2*p256Bytes {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:p256Bytes]), new(big.Int).SetBytes(signature[p256Bytes:])
	n := elliptic.P256().Params().N
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
		return false
	}
	sum := sha256.Sum256([]byte(text))
	return ecdsa.Verify(public, sum[:], r, s)
}
