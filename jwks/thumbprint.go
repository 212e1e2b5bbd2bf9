package jwks

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// Thumbprint returns the SHA-256 thumbprint of a public key in base64url (RFC 7638; RFC 8037,
// section 2, for Ed25519). It refuses every key that NewSet refuses. Keymill uses it as the
// kid of its own keys, so that two keys never have the same kid.
func Thumbprint(public crypto.PublicKey) (string, error) {
	if err := checkPublic(public); err != nil {
		return "", fmt.Errorf("thumbprint: %w", err)
	}
	// The required members, sorted by name, without white space.
	required := ""
	switch key := (Key{Public: public}).jwk(); key.KeyType {
	case "RSA":
		required = `{"e":"` + key.Exponent + `","kty":"RSA","n":"` + key.Modulus + `"}`
	case "OKP":
		required = `{"crv":"Ed25519","kty":"OKP","x":"` + key.X + `"}`
	case "EC":
		required = `{"crv":"P-256","kty":"EC","x":"` + key.X + `","y":"` + key.Y + `"}`
	}
	sum := sha256.Sum256([]byte(required))
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
