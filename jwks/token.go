package jwks

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// A jws is a token taken apart (RFC 7515, section 3.1) whose form, header and
// algorithm are good. Whether it is true is not known yet.
type jws struct {
	header
	payload, signature []byte
	signed             string // what the signature covers
}

// open takes token apart. It touches no key: a token that fails here has made nobody do
// more than read it once.
func open(token string, algorithms []string) (jws, error) {
	head, out, err := split(token)
	if err != nil {
		return jws{}, err
	}
	if out.header, err = readHeader(head); err != nil {
		return jws{}, err
	}
	if err := out.permitted(algorithms); err != nil {
		return jws{}, err
	}
	return out, nil
}

// split accepts the compact form only, in its one canonical spelling (RFC 7515,
// section 7.1). Five parts are an encrypted token: taking it for a signed one has cost
// others dear.
func split(token string) (head string, out jws, err error) {
	if len(token) > maxTokenBytes {
		return "", jws{}, fmt.Errorf("%w: %d bytes, the most is %d", ErrMalformed, len(token), maxTokenBytes)
	}
	switch dots := strings.Count(token, "."); dots {
	case 2:
	case 4:
		return "", jws{}, fmt.Errorf("%w: it is encrypted (5 parts)", ErrMalformed)
	default:
		return "", jws{}, fmt.Errorf("%w: %d parts, not 3", ErrMalformed, dots+1)
	}
	first, last := strings.IndexByte(token, '.'), strings.LastIndexByte(token, '.')
	out.signed = token[:last]
	var room [256]byte
	text, err := decodeSegment(token[:first], room[:])
	if err != nil {
		return "", jws{}, fmt.Errorf("%w: header is %w", ErrMalformed, err)
	}
	if out.payload, err = decodeSegment(token[first+1:last], nil); err != nil {
		return "", jws{}, fmt.Errorf("%w: payload is %w", ErrMalformed, err)
	}
	if out.signature, err = decodeSegment(token[last+1:], nil); err != nil {
		return "", jws{}, fmt.Errorf("%w: signature is %w", ErrMalformed, err)
	}
	return string(text), out, nil
}

// judge believes the token if key signed it, and returns its claims if they are what
// is wanted as of now.
func (t *jws) judge(key Key, want Expectation, now time.Time) (*Claims, error) {
	if !verify(key, t.signed, t.signature) {
		return nil, fmt.Errorf("%w: it is not by key %q", ErrSignature, clip(key.KID))
	}
	claims, err := readClaims(t.payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	claims.KID, claims.Alg = key.KID, key.Alg
	if err := claims.meet(want, now); err != nil {
		return nil, err
	}
	return claims, nil
}

// verify reports whether signature is key's over signed.
func verify(key Key, signed string, signature []byte) bool {
	switch public := key.Public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, []byte(signed), signature)
	case *rsa.PublicKey:
		sum := sha256.Sum256([]byte(signed))
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}
