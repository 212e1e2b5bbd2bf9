package jwks

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxTokenBytes bounds a token before anything looks into it.
const maxTokenBytes = 16 << 10

// maxLeeway is the most that a verifier may forgive a clock.
const maxLeeway = time.Minute

// Why Check refused, for errors.Is. The wrapping text says what was expected and what
// was there, which is for logs and operators; it never holds the token. To a client
// of the service every one of them is the same invalid_token.
var (
	ErrExpectation = errors.New("the verifier expects too little") // a fault of the caller
	ErrMalformed   = errors.New("not a well-formed token")
	ErrHeader      = errors.New("the header asks for what is not supported")
	ErrType        = errors.New("not an access token")
	ErrAlgorithm   = errors.New("wrong algorithm")
	ErrUnknownKey  = errors.New("unknown key")
	ErrSignature   = errors.New("wrong signature")
	ErrClaims      = errors.New("wrong claims")
	ErrIssuer      = errors.New("wrong issuer")
	ErrAudience    = errors.New("wrong audience")
	ErrExpired     = errors.New("expired")
	ErrNotYet      = errors.New("not valid yet")
)

// An Expectation is what a service demands of a token. Issuer, Audience and
// Algorithms must all be given: a check that an empty field skips is a check that a
// forgotten setting skips.
type Expectation struct {
	Issuer     string        // exactly as the issuer writes it
	Audience   string        // the one name of this service
	Algorithms []string      // of "RS256" and "EdDSA"
	Leeway     time.Duration // for exp, nbf and iat; 0 to 1 min
}

// Check verifies an access token (RFC 9068, section 4) against set as of now, and
// returns its claims. A token is accepted only whole: nothing of one that was refused
// is returned.
//
// The order keeps the cheap and certain first: shape, header, algorithm, key,
// signature, claims. No key is touched for a token of the wrong kind, and no claim
// is believed before the signature holds.
func Check(token string, set *Set, want Expectation, now time.Time) (*Claims, error) {
	if err := want.check(); err != nil {
		return nil, err
	}
	if set == nil {
		return nil, fmt.Errorf("%w: no key set", ErrExpectation)
	}
	parts, err := splitToken(token)
	if err != nil {
		return nil, err
	}
	head, err := readHeader(parts.header)
	if err != nil {
		return nil, err
	}
	key, err := head.key(set, want.Algorithms)
	if err != nil {
		return nil, err
	}
	if !verify(key, parts.signed, parts.signature) {
		return nil, fmt.Errorf("%w: it is not by key %q", ErrSignature, clip(key.KID))
	}
	claims, err := readClaims(parts.payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	claims.KID, claims.Alg = key.KID, key.Alg
	if err := claims.meet(want, now); err != nil {
		return nil, err
	}
	return claims, nil
}

func (want Expectation) check() error {
	switch {
	case want.Issuer == "":
		return fmt.Errorf("%w: no issuer", ErrExpectation)
	case want.Audience == "":
		return fmt.Errorf("%w: no audience", ErrExpectation)
	case len(want.Algorithms) == 0:
		return fmt.Errorf("%w: no algorithm", ErrExpectation)
	case want.Leeway < 0 || want.Leeway > maxLeeway:
		return fmt.Errorf("%w: leeway %v is not within 0 to %v", ErrExpectation, want.Leeway, maxLeeway)
	}
	for _, alg := range want.Algorithms {
		if alg != RS256 && alg != EdDSA {
			return fmt.Errorf("%w: algorithm %q is neither RS256 nor EdDSA", ErrExpectation, clip(alg))
		}
	}
	return nil
}

// parts of a compact JWS (RFC 7515, section 3.1), decoded.
type parts struct {
	header, payload, signature []byte
	signed                     string // what the signature covers
}

// splitToken accepts the compact form only, in its one canonical spelling (RFC 7515,
// section 7.1). Five parts are an encrypted token: taking it for a signed one has cost
// others dear.
func splitToken(token string) (parts, error) {
	if len(token) > maxTokenBytes {
		return parts{}, fmt.Errorf("%w: %d bytes, the most is %d", ErrMalformed, len(token), maxTokenBytes)
	}
	switch dots := strings.Count(token, "."); dots {
	case 2:
	case 4:
		return parts{}, fmt.Errorf("%w: it is encrypted (5 parts)", ErrMalformed)
	default:
		return parts{}, fmt.Errorf("%w: %d parts, not 3", ErrMalformed, dots+1)
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	out := parts{signed: token[:len(header)+1+len(payload)]}
	for _, part := range []struct {
		name string
		text string
		into *[]byte
	}{
		{"header", header, &out.header},
		{"payload", payload, &out.payload},
		{"signature", signature, &out.signature},
	} {
		b, err := decodeSegment(part.text)
		if err != nil {
			return parts{}, fmt.Errorf("%w: %s is %w", ErrMalformed, part.name, err)
		}
		*part.into = b
	}
	return out, nil
}

// A header is what a token says about itself. Nothing in it is believed: alg and kid
// choose among what the service already trusts.
type header struct{ alg, kid string }

// refusedHeaders change what the token means (RFC 7515, section 4.1.11; RFC 7516; RFC
// 7797; RFC 7519, section 5.2). Skipping one would be reading another token than was
// signed, so any of them ends it, whatever its value.
var refusedHeaders = [...]string{"crit", "b64", "zip", "enc"}

func readHeader(b []byte) (header, error) {
	members, err := parseObject(b)
	if err == nil {
		err = members.deep()
	}
	if err != nil {
		return header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	for _, name := range refusedHeaders {
		if _, present := members[name]; present {
			return header{}, fmt.Errorf("%w: %s", ErrHeader, name)
		}
	}
	text := map[string]string{}
	for _, name := range []string{"typ", "cty", "alg", "kid"} {
		if text[name], err = members.text(name); err != nil {
			return header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
		}
	}
	if cty := strings.ToLower(text["cty"]); cty == "jwt" || cty == "application/jwt" {
		return header{}, fmt.Errorf("%w: a token inside a token", ErrHeader)
	}
	// Media types know no case (RFC 2045, section 5.1).
	if typ := strings.ToLower(text["typ"]); typ != "at+jwt" && typ != "application/at+jwt" {
		return header{}, fmt.Errorf("%w: typ is %q, not at+jwt", ErrType, clip(text["typ"]))
	}
	return header{alg: text["alg"], kid: text["kid"]}, nil
}

// key finds the one key that may have signed. The algorithm must be allowed, and be
// the key's own: whoever may choose how a key is used can choose wrongly.
func (h header) key(set *Set, allowed []string) (Key, error) {
	alg := canonicalAlg(h.alg)
	if !slices.Contains(allowed, alg) {
		return Key{}, fmt.Errorf("%w: %q, allowed is %s", ErrAlgorithm, clip(h.alg), strings.Join(allowed, ", "))
	}
	if h.kid == "" {
		return Key{}, fmt.Errorf("%w: the header has no kid", ErrUnknownKey)
	}
	key, found := set.Key(h.kid)
	if !found {
		return Key{}, fmt.Errorf("%w: kid %q is not among the %d of the set", ErrUnknownKey, clip(h.kid), len(set.keys))
	}
	if key.Alg != alg {
		return Key{}, fmt.Errorf("%w: %q, key %q is for %s", ErrAlgorithm, clip(h.alg), clip(h.kid), key.Alg)
	}
	return key, nil
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
