package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
)

// CheckEd25519 refuses keys that a verifier must not accept. Package jwks leaves the same
// keys out of a set; this package cannot use its check, because jwks links net/http.
func CheckEd25519(k ed25519.PublicKey) error {
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
