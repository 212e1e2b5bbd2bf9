package jwks

import (
	"errors"
	"fmt"
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
	ErrConfig = errors.New("not a usable configuration") // a fault of the caller
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
	ErrScope       = errors.New("the token does not grant the scope") // of Claims.Grants
)

// An Expectation is what a service demands of a token. Issuer, Audience and
// Algorithms must all be given: a check that an empty field skips is a check that a
// forgotten setting skips.
type Expectation struct {
	Issuer     string        // exactly as the issuer writes it
	Audience   string        // the one name of this service
	Algorithms []string      // of "RS256" and "EdDSA", which is also called "Ed25519"
	Leeway     time.Duration // for exp, nbf and iat; 0 to 1 min
}

// Check verifies an access token (RFC 9068, section 4) against set as of now, and
// returns its claims. A token is accepted only whole: nothing of one that was refused
// is returned.
//
// The order keeps the cheap and certain first: length, shape, header, algorithm, type,
// key, signature, claims. No key is touched for a token of the wrong kind, and no claim
// is believed before the signature holds.
func Check(token string, set *Set, want Expectation, now time.Time) (*Claims, error) {
	if err := want.check(); err != nil {
		return nil, err
	}
	if set == nil {
		return nil, fmt.Errorf("%w: no key set", ErrConfig)
	}
	t, err := open(token, want.Algorithms)
	if err != nil {
		return nil, err
	}
	key, err := t.key(set)
	if err != nil {
		return nil, err
	}
	return t.judge(key, want, now)
}

func (want Expectation) check() error {
	switch {
	case want.Issuer == "":
		return fmt.Errorf("%w: no issuer", ErrConfig)
	case want.Audience == "":
		return fmt.Errorf("%w: no audience", ErrConfig)
	case len(want.Algorithms) == 0:
		return fmt.Errorf("%w: no algorithm", ErrConfig)
	case want.Leeway < 0 || want.Leeway > maxLeeway:
		return fmt.Errorf("%w: leeway %v is not within 0 to %v", ErrConfig, want.Leeway, maxLeeway)
	}
	for _, alg := range want.Algorithms {
		if alg = canonicalAlg(alg); alg != RS256 && alg != EdDSA {
			return fmt.Errorf("%w: algorithm %q is neither RS256 nor EdDSA", ErrConfig, clip(alg))
		}
	}
	return nil
}
