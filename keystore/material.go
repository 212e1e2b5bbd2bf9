package keystore

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// The algorithms of rings (RFC 7518, section 3.1, and RFC 8037, section 3.1).
const (
	RS256 = "RS256"
	EdDSA = "EdDSA"
)

// rsaBits is the size of the RSA keys that we make: twice the work of verifying and five
// times that of signing is the price of 3072, for keys that live a month.
const (
	rsaBits    = 2048
	rsaMinBits = 2048
	rsaMaxBits = 8192
)

// algorithm says which ring a public key belongs to, and refuses weak ones.
func algorithm(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return "", errors.New("an Ed25519 public key has 32 bytes")
		}
		if !canonical(k) || forgeable(k) {
			return "", errors.New("anybody can sign for that Ed25519 key, or it is not canonical: no key generator makes such")
		}
		return EdDSA, nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < rsaMinBits || bits > rsaMaxBits {
			return "", fmt.Errorf("the RSA key has %d bits; %d to %d are allowed", bits, rsaMinBits, rsaMaxBits)
		}
		if k.E < 65537 || k.E%2 == 0 || k.E > math.MaxInt32 {
			return "", errors.New("the RSA exponent is too small, too large or even; 65537 is usual")
		}
		if k.N.Bit(0) == 0 {
			return "", errors.New("the RSA modulus is even")
		}
		return RS256, nil
	}
	return "", errors.New("only RSA and Ed25519 keys can sign here")
}

// What follows refuses the Ed25519 keys that package jwks leaves out of a set, which this
// package may not import: it links net/http.

// canonical says whether y is below the prime 2^255 - 19 (RFC 8032, section 5.1.3), which
// crypto/ed25519 does not ask. Above it a point has a second spelling.
func canonical(k ed25519.PublicKey) bool {
	y := slices.Clone(k)
	y[31] &= 0x7f // without the sign of x
	slices.Reverse(y)
	prime := append([]byte{0x7f}, bytes.Repeat([]byte{0xff}, 31)...)
	prime[31] = 0xed
	return bytes.Compare(y, prime) < 0
}

// forgeable tries to sign without the private half. For a key of small order the neutral
// point and zero are a signature of every eighth message at least; for all others of
// none, so 256 of them leave no doubt.
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

// generate makes a key pair for a ring.
func generate(alg string) (crypto.Signer, error) {
	switch alg {
	case RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case EdDSA:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	}
	return nil, fmt.Errorf("no ring signs with %q", alg)
}

// thumbprint is the kid that we give: RFC 7638, with SHA-256.
func thumbprint(public crypto.PublicKey) (string, error) {
	jwk := jose.JSONWebKey{Key: public}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// A signer signs with one key in one algorithm.
type signer struct {
	key    crypto.Signer
	header []byte // of access tokens: base64url of {"alg","kid","typ"}, then a dot
}

// typeAccessToken is the media type of nearly all tokens (RFC 9068, section 2.1); its
// header is encoded once.
const typeAccessToken = "at+jwt"

func newSigner(key crypto.Signer, alg, kid string) (*signer, error) {
	header, err := encodeHeader(alg, kid, typeAccessToken)
	if err != nil {
		return nil, err
	}
	s := &signer{key: key, header: header}
	return s, s.prove()
}

func encodeHeader(alg, kid, typ string) ([]byte, error) {
	b, err := json.Marshal(struct {
		Alg string `json:"alg"`
		KID string `json:"kid"`
		Typ string `json:"typ"`
	}{alg, kid, typ})
	if err != nil {
		return nil, err
	}
	return append(base64.RawURLEncoding.AppendEncode(nil, b), '.'), nil
}

// prove signs once and verifies, before the key stands for anything: a faulty private
// half would otherwise be noticed by everybody else.
func (s *signer) prove() error {
	message := []byte("keymill: a key proves itself")
	signature, err := s.sign(message)
	if err != nil {
		return err
	}
	switch public := s.key.Public().(type) {
	case ed25519.PublicKey:
		if !ed25519.Verify(public, message, signature) {
			return errors.New("the key does not verify its own signature")
		}
	case *rsa.PublicKey:
		sum := sha256.Sum256(message)
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature)
	}
	return nil
}

// sign returns the signature of a JWS signing input (RFC 7515, section 5.1).
func (s *signer) sign(input []byte) ([]byte, error) {
	switch key := s.key.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, input), nil
	case *rsa.PrivateKey:
		sum := sha256.Sum256(input)
		return rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	}
	return nil, errors.New("no such key type")
}

// token returns the compact JWS (RFC 7515, section 7.1) of payload under header.
func (s *signer) token(header, payload []byte) (string, error) {
	enc := base64.RawURLEncoding
	out := make([]byte, 0, len(header)+enc.EncodedLen(len(payload))+1+enc.EncodedLen(rsaMaxBits/8))
	out = append(out, header...)
	out = enc.AppendEncode(out, payload)
	signature, err := s.sign(out)
	if err != nil {
		return "", err
	}
	out = append(out, '.')
	return string(enc.AppendEncode(out, signature)), nil
}

// marshalPublic and parsePublic keep public halves as SubjectPublicKeyInfo.
func marshalPublic(public crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(public) }

func parsePublic(der []byte) (crypto.PublicKey, error) { return x509.ParsePKIXPublicKey(der) }

// marshalPrivate and parsePrivate keep private halves as PKCS #8.
func marshalPrivate(key crypto.Signer) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(key) }

func parsePrivate(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the private key is unreadable") // the cause could quote it
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign")
	}
	return s, nil
}
