package issuer

import (
	"slices"
	"strings"

	"keymill/issuer/refusal"
	"keymill/jwks"
)

// validScope bounds what the verifiers call a scope.
func validScope(s string) bool { return len(s) <= maxScopeBytes && jwks.IsScope(s) }

// checkScopes returns list sorted and without repetitions.
func checkScopes(list []string) ([]string, error) {
	list = distinct(list)
	if len(list) > maxScopes {
		return nil, refusal.New("invalid_request", "%d scopes are too many: at most %d", len(list), maxScopes)
	}
	for _, s := range list {
		if !validScope(s) {
			return nil, refusal.New("invalid_request",
				"scope '%s' must be 1 to %d visible ASCII characters without quote and backslash", s, maxScopeBytes)
		}
	}
	return list, nil
}

// chooseScopes returns what a token carries: what was asked, or, if nothing was, all
// that the client has at the audience. Both lists are sorted. An audience may have
// dropped a scope that a client still lists, so both are asked.
func chooseScopes(asked string, client, audience []string) (string, error) {
	if asked == "" {
		return strings.Join(slices.DeleteFunc(slices.Clone(client), func(s string) bool {
			_, ok := slices.BinarySearch(audience, s)
			return !ok
		}), " "), nil
	}
	list := strings.Split(asked, " ")
	if len(list) > maxScopes {
		return "", refusal.New("invalid_scope", "%d scopes are too many: at most %d", len(list), maxScopes)
	}
	for _, s := range list {
		_, has := slices.BinarySearch(client, s)
		_, known := slices.BinarySearch(audience, s)
		if !has || !known {
			return "", refusal.New("invalid_scope", "this client does not have every scope it asked for at this audience")
		}
	}
	if len(list) == 1 {
		return asked, nil
	}
	return strings.Join(distinct(list), " "), nil
}
