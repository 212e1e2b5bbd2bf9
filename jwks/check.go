package jwks

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxTokenBytes bounds a token before anything parses it.
const maxTokenBytes = 16 << 10

// maxLeeway bounds the clock difference that a verifier may allow.
const maxLeeway = time.Minute

// ErrConfig is the error for a configuration that would skip a check or cannot work. It is
// a fault of the program, not of a token.
var ErrConfig = errors.New("invalid configuration")

// An Expectation is what a service requires of a token. Issuer, Audience and Algorithms are
// required: if an empty field skipped a check, a forgotten setting would skip it too.
type Expectation struct {
	Issuer     string        // exactly as the issuer writes it
	Audience   string        // the one name of this service
	Algorithms []string      // of Algorithms; EdDSA is also called "Ed25519"
	Leeway     time.Duration // allowed clock difference for exp, nbf and iat; 0 to 1 min
	Type       string        // TypeAccessToken, which "" means, or TypeJWT
	OldType    string        // also accepted, while the issuer changes the type of the audience; "" for none
}

// The types of access tokens, which their header has as typ.
const (
	TypeAccessToken = "at+jwt" // RFC 9068, section 2.1

	// TypeJWT is that of any JWT (RFC 7519, section 5.1). Only the claims tell an access token from an ID
	// token then, so the issuer must make no ID token for the audience. Keymill makes none.
	TypeJWT = "JWT"
)

// Check verifies an access token (RFC 9068, section 4) with the keys of set at the time now,
// and returns its claims. For a token that it refuses it returns no claims and a *Failure. The
// error is ErrConfig if want or set is unusable.
//
// The cheap checks come first, in the order of the Step constants: form, header, algorithm,
// type, key, signature, claims. A token of the wrong kind costs no public-key operation, and
// no claim is read before the signature is verified.
func Check(token string, set *Set, want Expectation, now time.Time) (*Claims, error) {
	if err := want.check(); err != nil {
		return nil, err
	}
	if set == nil {
		return nil, fmt.Errorf("%w: no key set", ErrConfig)
	}
	t, err := parseToken(token, &want)
	if err != nil {
		return nil, err
	}
	key, err := t.key(set)
	if err != nil {
		return nil, err
	}
	return t.verify(key, want, now)
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
	case !isType(want.Type) || !isType(want.OldType):
		return fmt.Errorf("%w: type %q, or old type %q, is neither %s nor %s", ErrConfig, clip(want.Type), clip(want.OldType), TypeAccessToken, TypeJWT)
	}
	for _, alg := range want.Algorithms {
		if alg = canonicalAlg(alg); !slices.Contains(algorithms[:], alg) {
			return fmt.Errorf("%w: algorithm %q is not one of %s", ErrConfig, clip(alg), strings.Join(algorithms[:], ", "))
		}
	}
	return nil
}

func isType(typ string) bool { return typ == "" || typ == TypeAccessToken || typ == TypeJWT }

// accepted returns the type that a typ stands for, or "" if want does not accept it. Media types are not
// case-sensitive, and "application/" may be left out (RFC 7515, section 4.1.9).
func (want *Expectation) accepted(typ string) string {
	for _, t := range [...]string{cmp.Or(want.Type, TypeAccessToken), want.OldType} {
		if t != "" && (strings.EqualFold(typ, t) || strings.EqualFold(typ, "application/"+t)) {
			return t
		}
	}
	return ""
}

// types names the types that want accepts.
func (want *Expectation) types() string {
	return strings.TrimSuffix(cmp.Or(want.Type, TypeAccessToken)+" or "+want.OldType, " or ")
}
