package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A jws is a token in its parts (RFC 7515, section 3.1). Its form, header and algorithm have
// been checked, its signature has not.
type jws struct {
	header
	payload, signature []byte
	signed             string // what the signature covers: the first two parts and their dot
}

// parseToken splits token and checks its header. It does no public-key operation, so a token
// that fails here costs no more than being read once.
func parseToken(token string, want *Expectation) (jws, error) {
	head, out, err := split(token)
	if err != nil {
		return jws{}, err
	}
	if out.header, err = readHeader(head); err != nil {
		return jws{}, err
	}
	if err := out.check(want); err != nil {
		return jws{}, err
	}
	return out, nil
}

// split accepts only the compact form, in its one canonical encoding (RFC 7515, section 7.1).
// A token of five parts is encrypted (RFC 7516). Verifiers that treated such a token as a
// signed one have been attacked that way.
func split(token string) (head string, out jws, err error) {
	malformed := func(cause error) (string, jws, error) {
		return "", jws{}, unreadable(StepForm, expectForm, cause)
	}
	if len(token) > maxTokenBytes {
		return "", jws{}, tooLong(len(token))
	}
	switch dots := strings.Count(token, "."); dots {
	case 2:
	case 4:
		return malformed(errors.New("it is encrypted (5 parts)"))
	default:
		return malformed(fmt.Errorf("it must have 3 parts, not %d", dots+1))
	}
	first, last := strings.IndexByte(token, '.'), strings.LastIndexByte(token, '.')
	out.signed = token[:last]
	var buffer [256]byte // most headers fit, which saves an allocation
	text, err := decodeSegment(token[:first], buffer[:])
	if err != nil {
		return malformed(fmt.Errorf("header is %w", err))
	}
	if out.payload, err = decodeSegment(token[first+1:last], nil); err != nil {
		return malformed(fmt.Errorf("payload is %w", err))
	}
	if out.signature, err = decodeSegment(token[last+1:], nil); err != nil {
		return malformed(fmt.Errorf("signature is %w", err))
	}
	return string(text), out, nil
}

// tooLong is the Failure for a token of more than maxTokenBytes.
func tooLong(bytes int) error {
	return unreadable(StepForm, expectForm, fmt.Errorf("%d bytes, the limit is %d", bytes, maxTokenBytes))
}

// verify checks that key signed the token, and then that its claims meet want at the time
// now.
func (t *jws) verify(key Key, want Expectation, now time.Time) (*Claims, error) {
	if bytes := len(t.signature); key.Alg == ES256 && bytes != 2*p256Bytes {
		return nil, fail(StepSignature, "64 bytes, r and s", fmt.Sprintf("%d bytes", bytes),
			"a signature of ES256 has 64 bytes, not %d; one in DER is another form, which JWS does not use", bytes)
	}
	if !key.signed(t.signed, t.signature) {
		return nil, fail(StepSignature, "by that key", "not by that key, or the token was changed",
			"it was not made with key %q", clip(key.KID))
	}
	claims, err := readClaims(t.payload)
	if err != nil {
		return nil, unreadable(StepClaimTypes, expectClaims, err)
	}
	claims.KID, claims.Alg, claims.Type = key.KID, key.Alg, t.typ
	if err := claims.check(want, now); err != nil {
		return nil, err
	}
	return claims, nil
}

// signed reports whether signature is a signature of text with k.
func (k Key) signed(text string, signature []byte) bool {
	switch public := k.Public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, []byte(text), signature)
	case *rsa.PublicKey:
		sum := sha256.Sum256([]byte(text))
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	case *ecdsa.PublicKey:
		return signedES256(public, text, signature)
	}
	return false
}
