package keytype

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
)

const (
	jwkNames        = 80 // names, punctuation, kty, use, alg, crv or e
	thumbprintBytes = 45 // with its quotes
)

// JWKBytes returns the size of the JWK of a public key, or a little more.
func JWKBytes(kid string, public crypto.PublicKey) int {
	quoted, _ := json.Marshal(kid) // escapes can be six times as long
	n := 32
	switch key := public.(type) {
	case *rsa.PublicKey:
		n = (key.N.BitLen() + 7) / 8
	case *ecdsa.PublicKey:
		n = 2 * 32 // x and y
	}
	return jwkNames + len(quoted) + base64Bytes(n)
}

// OwnJWKBytes returns the size of the JWK of a key that we make, with its thumbprint as the kid, or a little more.
func OwnJWKBytes(alg string) int {
	n := 0
	for _, a := range algorithms {
		if a.name == alg {
			n = a.members
		}
	}
	return jwkNames + thumbprintBytes + base64Bytes(n)
}

func base64Bytes(n int) int { return (4*n + 2) / 3 }
