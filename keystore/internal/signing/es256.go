package signing

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const p256Bytes = 32

// signES256 returns r and s in 32 octets each, with their leading zeros (RFC 7518, section 3.4).
//
// The nonce is drawn for every signature, mixed with the key and the message. One that followed from those alone, as in
// RFC 6979, would repeat: a second, faulty signature of the same text would then reveal the key. With a new nonce it reveals
// nothing, so no signature is verified before it is returned, which would take longer than to sign. Those of RSA need it, and
// crypto/rsa does it.
func signES256(key *ecdsa.PrivateKey, input []byte) ([]byte, error) {
	sum := sha256.Sum256(input)
	der, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return nil, err
	}
	var both cryptobyte.String
	var r, s []byte
	outer := cryptobyte.String(der)
	if !outer.ReadASN1(&both, asn1.SEQUENCE) || !outer.Empty() ||
		!both.ReadASN1Integer(&r) || !both.ReadASN1Integer(&s) || !both.Empty() || len(r) > p256Bytes || len(s) > p256Bytes {
		return nil, errors.New("the signature is not in DER")
	}
	out := make([]byte, 2*p256Bytes)
	copy(out[p256Bytes-len(r):], r)
	copy(out[2*p256Bytes-len(s):], s)
	return out, nil
}

// verifyES256 verifies what signES256 has made.
func verifyES256(public *ecdsa.PublicKey, message, signature []byte) bool {
	sum := sha256.Sum256(message)
	r, s := new(big.Int).SetBytes(signature[:p256Bytes]), new(big.Int).SetBytes(signature[p256Bytes:])
	return ecdsa.Verify(public, sum[:], r, s)
}
