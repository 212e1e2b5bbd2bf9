package jwks

import (
	"fmt"
	"slices"
	"strings"

	"keymill/jwks/internal/strictjson"
)

// A header is the JOSE header of a token. Nothing in it is trusted: alg and kid only choose
// among the algorithms and keys that the service already trusts.
type header struct{ typ, cty, alg, kid string }

// What the steps of a header expect, as people read it.
const (
	expectForm   = "3 parts of base64url, at most 16384 bytes"
	expectHeader = "no crit, b64, zip, enc; no token inside"
)

// readHeader reads the header of a token. It runs before the signature is checked, so an
// attacker can send any header; headerRules limits what one costs.
func readHeader(text string) (header, error) {
	var h header
	var unsupported string // a parameter that changes the meaning of the token
	var mistyped error     // a known parameter that is not a string
	err := strictjson.Scan(text, headerRules, func(name, raw string) error {
		var into *string
		switch name {
		case "typ":
			into = &h.typ
		case "cty":
			into = &h.cty
		case "alg":
			into = &h.alg
		case "kid":
			into = &h.kid
		case "crit", "b64", "zip", "enc":
			// These change what the token means (RFC 7515, section 4.1.11; RFC 7797; RFC
			// 7516). A verifier that skips one reads another token than was signed, so any
			// of them, with any value, ends the check.
			unsupported = name
			return nil
		default:
			return nil
		}
		var err error
		if *into, err = strictjson.Text(raw); err != nil {
			mistyped = fmt.Errorf("%s is %w", name, err)
		}
		return nil
	})
	if err == nil && unsupported != "" {
		return header{}, fail(StepHeader, expectHeader, unsupported, "%s", unsupported)
	}
	if err == nil {
		err = mistyped
	}
	if err != nil {
		return header{}, unreadable(StepForm, expectForm, fmt.Errorf("header: %w", err))
	}
	return h, nil
}

// check refuses a header that is wrong with every key, before any key is looked up. After it, typ is
// TypeAccessToken or TypeJWT.
func (h *header) check(want *Expectation) error {
	// A nested token (RFC 7519, section 5.2).
	if strings.EqualFold(h.cty, "jwt") || strings.EqualFold(h.cty, "application/jwt") {
		return fail(StepHeader, expectHeader, "cty "+h.cty, "cty is %q, a token inside a token", h.cty)
	}
	if alg := canonicalAlg(h.alg); !slices.ContainsFunc(want.Algorithms, func(a string) bool { return canonicalAlg(a) == alg }) {
		allowed := strings.Join(want.Algorithms, ", ")
		return fail(StepAlgorithm, allowed, h.alg, "%q, allowed: %s", clip(h.alg), allowed)
	}
	typ := want.accepted(h.typ)
	if typ == "" {
		return fail(StepType, want.types(), h.typ, "typ is %q, not %s", clip(h.typ), want.types())
	}
	h.typ = typ
	if h.kid == "" {
		return fail(StepKeyID, "a kid", "", "the header has no kid")
	}
	if len(h.kid) > maxKIDBytes {
		return unreadable(StepForm, expectForm, fmt.Errorf("the kid has %d bytes, the limit is %d", len(h.kid), maxKIDBytes))
	}
	return nil
}

// key returns the key that h names. The alg of the token must be the algorithm of that key:
// an attacker who chooses how a key is used can choose a way that forges (RFC 8725, section
// 3.1).
func (h header) key(set *Set) (Key, error) {
	key, found := set.Key(h.kid)
	if !found {
		return Key{}, fail(StepKey, fmt.Sprintf("one of the %d in the set", len(set.keys)), h.kid,
			"kid %q is not among the %d of the set", clip(h.kid), len(set.keys))
	}
	if key.Alg != canonicalAlg(h.alg) {
		return Key{}, fail(StepKeyAlgorithm, key.Alg, h.alg,
			"%q, key %q is for %s", clip(h.alg), clip(h.kid), key.Alg)
	}
	return key, nil
}
