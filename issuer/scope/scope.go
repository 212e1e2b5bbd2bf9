// Package scope decides about scopes (RFC 6749, section 3.3): which a client can have, and which a token
// gets.
package scope

import (
	"slices"
	"strings"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/jwks"
)

// Max is how many scopes a client, an audience or a request can have.
const Max = 50

const maxBytes = 64 // of one scope

// Valid reports whether s is a scope that package jwks accepts and is not too long.
func Valid(s string) bool { return len(s) <= maxBytes && jwks.IsScope(s) }

// Check returns list sorted and without repetitions.
func Check(list []string) ([]string, error) {
	list = record.Distinct(list)
	if len(list) > Max {
		return nil, refusal.New("invalid_request", "%d scopes are too many: at most %d are allowed", len(list), Max)
	}
	for _, s := range list {
		if !Valid(s) {
			return nil, refusal.New("invalid_request",
				"scope '%s' must be 1 to %d visible ASCII characters without quote and backslash", refusal.Quoted(s), maxBytes)
		}
	}
	return list, nil
}

// Choose returns the scope of a token: what the client asked for, or everything that it has
// at the audience. Both lists are sorted. An audience may have lost a scope that a client still
// lists, so both are read.
func Choose(asked string, client, audience []string) (string, error) {
	if asked == "" {
		return strings.Join(slices.DeleteFunc(slices.Clone(client), func(s string) bool {
			_, ok := slices.BinarySearch(audience, s)
			return !ok
		}), " "), nil
	}
	list := strings.Split(asked, " ")
	if len(list) > Max {
		return "", refusal.New("invalid_scope", "%d scopes are too many: at most %d are allowed", len(list), Max)
	}
	for _, s := range list {
		_, has := slices.BinarySearch(client, s)
		_, known := slices.BinarySearch(audience, s)
		if !has || !known {
			return "", refusal.New("invalid_scope", "the client is not allowed a requested scope for this audience")
		}
	}
	if len(list) == 1 {
		return asked, nil
	}
	return strings.Join(record.Distinct(list), " "), nil
}
