// Package signing makes signatures, and bounds how many are made at once.
package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"sync"
)

// A Signer signs with one private key.
type Signer struct {
	key     crypto.Signer
	size    int               // of a signature, in bytes
	headers map[string][]byte // typ of access tokens → base64url of {"alg","kid","typ"} and a dot
	buffers sync.Pool         // of *[]byte, in which tokens are put together
}

// usual are the types of nearly all tokens: at+jwt (RFC 9068, section 2.1), and JWT for audiences whose
// software knows no other. Their headers are encoded once.
var usual = [...]string{"at+jwt", "JWT"}

// Private returns the key that signs; nil for a nil Signer.
func (s *Signer) Private() crypto.Signer {
	if s == nil {
		return nil
	}
	return s.key
}

// SignWith makes the signer sign with the same key in another place. The caller has tried that one.
func (s *Signer) SignWith(key crypto.Signer) { s.key = key }

// New checks key with one signature: a private half that does not fit the public one
// would otherwise be noticed by verifiers only.
func New(key crypto.Signer, alg, kid string) (*Signer, error) {
	s := &Signer{key: key, size: signatureBytes(key), headers: make(map[string][]byte, len(usual))}
	for _, typ := range usual {
		header, err := encodeHeader(alg, kid, typ)
		if err != nil {
			return nil, err
		}
		s.headers[typ] = header
	}
	return s, s.selfTest()
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

// selfTest signs and verifies one message.
func (s *Signer) selfTest() error {
	message := []byte("keymill: self-test of a key")
	signature, err := s.sign(message)
	if err != nil {
		return err
	}
	switch public := s.key.Public().(type) {
	case ed25519.PublicKey:
		if !ed25519.Verify(public, message, signature) {
			return errors.New("the public half does not verify a signature of the private half")
		}
	case *rsa.PublicKey:
		sum := sha256.Sum256(message)
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature)
	case *ecdsa.PublicKey:
		if !verifyES256(public, message, signature) {
			return errors.New("the public half does not verify a signature of the private half")
		}
	}
	return nil
}

// sign returns the signature of a JWS signing input (RFC 7515, section 5.1).
func (s *Signer) sign(input []byte) ([]byte, error) {
	switch key := s.key.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, input), nil
	case *rsa.PrivateKey:
		sum := sha256.Sum256(input)
		return rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		return signES256(key, input)
	}
	if _, ok := s.key.Public().(*rsa.PublicKey); ok { // the private half is not in memory of Go
		sum := sha256.Sum256(input)
		return s.key.Sign(nil, sum[:], crypto.SHA256)
	}
	return nil, errors.New("the private key is not of RSA, Ed25519 or P-256")
}

// signatureBytes returns how long the signatures of the key are.
func signatureBytes(key crypto.Signer) int {
	if public, ok := key.Public().(*rsa.PublicKey); ok {
		return public.Size()
	}
	return ed25519.SignatureSize // r and s of ES256 are as long
}

// Token returns the compact JWS (RFC 7515, section 7.1) of payload, with a header of alg, kid and typ.
func (s *Signer) Token(alg, kid, typ string, payload []byte) (string, error) {
	header := s.headers[typ]
	if header == nil {
		var err error
		if header, err = encodeHeader(alg, kid, typ); err != nil {
			return "", err
		}
	}
	enc := base64.RawURLEncoding
	buffer, _ := s.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new(make([]byte, 0, len(header)+enc.EncodedLen(len(payload))+1+enc.EncodedLen(s.size)))
	}
	defer s.buffers.Put(buffer)
	out := append((*buffer)[:0], header...)
	out = enc.AppendEncode(out, payload)
	signature, err := s.sign(out)
	if err != nil {
		return "", err
	}
	out = enc.AppendEncode(append(out, '.'), signature)
	*buffer = out
	return string(out), nil
}
