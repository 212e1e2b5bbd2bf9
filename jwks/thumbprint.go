package jwks

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// Thumbprint returns the SHA-256 thumbprint of a public key in base64url (RFC 7638;
// RFC 8037, section 2, for Ed25519). Keymill names its own keys by it, so that a kid
// says which key it is and no two keys can share one.
func Thumbprint(public crypto.PublicKey) (string, error) {
	var required string // the required members, sorted by name, without white space
	switch key := public.(type) {
	case *rsa.PublicKey:
		if err := checkRSA(key); err != nil {
			return "", fmt.Errorf("thumbprint: %w", err)
		}
		n, e := rsaMembers(key)
		required = `{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return "", fmt.Errorf("thumbprint: an Ed25519 key has %d bytes, not %d", ed25519.PublicKeySize, len(key))
		}
		x := base64.RawURLEncoding.EncodeToString(key)
		required = `{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`
	default:
		return "", fmt.Errorf("thumbprint: a %T is neither *rsa.PublicKey nor ed25519.PublicKey", public)
	}
	sum := sha256.Sum256([]byte(required))
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
