package jwks

import (
	"fmt"
	"slices"
	"strings"
)

// A header is what a token says about itself. Nothing in it is believed: alg and kid
// choose among what the service already trusts.
type header struct{ typ, cty, alg, kid string }

// readHeader reads the header of a token, which nobody has signed as far as anyone
// knows. That is why its members are few.
func readHeader(text string) (header, error) {
	var h header
	var foreign string // a member that changes the meaning
	var mistyped error // of another type than its name asks for
	err := scanObject(text, headerRules, func(name, raw string) error {
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
			// They change what the token means (RFC 7515, section 4.1.11; RFC 7797; RFC
			// 7516). Skipping one would be reading another token than was signed, so any
			// of them ends it, whatever its value.
			foreign = name
			return nil
		default:
			return nil
		}
		var err error
		if *into, err = asText(raw); err != nil {
			mistyped = fmt.Errorf("%s is %w", name, err)
		}
		return nil
	})
	if err == nil && foreign != "" {
		return header{}, fmt.Errorf("%w: %s", ErrHeader, foreign)
	}
	if err == nil {
		err = mistyped
	}
	if err != nil {
		return header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	return h, nil
}

// permitted refuses, without looking at any key, what no key could make good.
func (h header) permitted(algorithms []string) error {
	// A token inside a token (RFC 7519, section 5.2).
	if strings.EqualFold(h.cty, "jwt") || strings.EqualFold(h.cty, "application/jwt") {
		return fmt.Errorf("%w: cty is %q, a token inside a token", ErrHeader, h.cty)
	}
	if alg := canonicalAlg(h.alg); !slices.ContainsFunc(algorithms, func(a string) bool { return canonicalAlg(a) == alg }) {
		return fmt.Errorf("%w: %q, allowed is %s", ErrAlgorithm, clip(h.alg), strings.Join(algorithms, ", "))
	}
	// Media types know no case (RFC 2045, section 5.1).
	if !strings.EqualFold(h.typ, "at+jwt") && !strings.EqualFold(h.typ, "application/at+jwt") {
		return fmt.Errorf("%w: typ is %q, not at+jwt", ErrType, clip(h.typ))
	}
	if h.kid == "" {
		return fmt.Errorf("%w: the header has no kid", ErrUnknownKey)
	}
	if len(h.kid) > maxKIDBytes {
		return fmt.Errorf("%w: the kid has %d bytes, the most is %d", ErrMalformed, len(h.kid), maxKIDBytes)
	}
	return nil
}

// key finds the one key that may have signed. The algorithm must be the key's own:
// whoever may choose how a key is used can choose wrongly.
func (h header) key(set *Set) (Key, error) {
	key, found := set.Key(h.kid)
	if !found {
		return Key{}, fmt.Errorf("%w: kid %q is not among the %d of the set", ErrUnknownKey, clip(h.kid), len(set.keys))
	}
	if key.Alg != canonicalAlg(h.alg) {
		return Key{}, fmt.Errorf("%w: %q, key %q is for %s", ErrAlgorithm, clip(h.alg), clip(h.kid), key.Alg)
	}
	return key, nil
}
