package jwks

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// edPrime is 2^255 - 19. The coordinates of edwards25519 are smaller.
const edPrime = "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed"

// edSmallOrder holds the y of the eight points whose order divides 8, the cofactor. The curve
// is -x² + y² = 1 + d·x²·y² (RFC 8032, section 5.1), and two points can have the same y:
//
//	order 1: y = 1, the neutral point (0, 1)
//	order 2: y = -1, since doubling (0, -1) gives (0, 1)
//	order 4: y = 0, where x² = -1; doubling gives (0, -1)
//	order 8: d·y⁴ + 2·y² = 1, since a point that doubles to y = 0 has x² = -y²
//
// The last equation has two solutions, y and -y.
var edSmallOrder = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000001",
	"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
	"7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7",
}

// checkEd25519 refuses keys whose signatures anyone can forge. A signature is R and S such that
// S·B = R + k·A, where A is the key and k a hash of R, A and the message. If A has order n and
// n divides k, the neutral point as R and 0 as S satisfy that. This is so for one message in
// n, and crypto/ed25519 accepts it, as RFC 8032, section 5.1.7, specifies.
//
// It also refuses a y that is not below the prime, as section 5.1.3 requires.
// crypto/ed25519 does not check that. Such a y is a second encoding of a point, also of the points
// above, so one key would have two thumbprints. No correct program writes such a key.
func checkEd25519(public ed25519.PublicKey) error {
	if len(public) != ed25519.PublicKeySize {
		return fmt.Errorf("an Ed25519 key has %d bytes, not %d", ed25519.PublicKeySize, len(public))
	}
	y := edY(public)
	if y >= edPrime {
		return errors.New("the Ed25519 key is not canonical")
	}
	if slices.Contains(edSmallOrder[:], y) {
		return errors.New("the Ed25519 key has a small order: anyone can sign for it")
	}
	return nil
}

// edY returns the y of a key as 64 hexadecimal digits, most significant first, so that texts
// compare like numbers. A key is y in little-endian order. Its highest bit is the sign of x,
// which does not matter here: a point of small order is weak with either sign.
func edY(public ed25519.PublicKey) string {
	y := slices.Clone(public)
	y[31] &= 0x7f
	slices.Reverse(y)
	return hex.EncodeToString(y)
}
