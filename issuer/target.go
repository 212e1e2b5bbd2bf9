package issuer

import (
	"slices"
	"strings"

	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/storage"
)

// validScope reports whether s is a scope that package jwks accepts and is not too long.
func validScope(s string) bool { return len(s) <= maxScopeBytes && jwks.IsScope(s) }

// checkScopes returns list sorted and without repetitions.
func checkScopes(list []string) ([]string, error) {
	list = distinct(list)
	if len(list) > maxScopes {
		return nil, refusal.New("invalid_request", "%d scopes are too many: at most %d are allowed", len(list), maxScopes)
	}
	for _, s := range list {
		if !validScope(s) {
			return nil, refusal.New("invalid_request",
				"scope '%s' must be 1 to %d visible ASCII characters without quote and backslash", refusal.Quoted(s), maxScopeBytes)
		}
	}
	return list, nil
}

// chooseAudience returns the audience that the client asked for, or the only one of allowed. An
// audience that does not exist is refused like one that is not allowed.
func (i *Issuer) chooseAudience(r storage.Reader, asked string, allowed []string) (string, *audienceRecord, error) {
	switch {
	case asked == "" && len(allowed) == 1:
		asked = allowed[0]
	case asked == "":
		return "", nil, refusal.New("invalid_target", "this client has %d audiences: name one with resource or audience", len(allowed))
	case !slices.Contains(allowed, asked):
		return "", nil, refusal.New("invalid_target", "this client is not allowed that audience")
	}
	key := audienceKey(asked)
	raw, err := r.Get(key)
	if err != nil {
		return "", nil, err // an audience that a client names cannot be removed, so this is a fault
	}
	record, err := i.audiences.read(key, raw)
	return asked, record, err
}

// chooseScopes returns the scope of a token: what the client asked for, or everything that it has
// at the audience. Both lists are sorted. An audience may have lost a scope that a client still
// lists, so both are read.
func chooseScopes(asked string, client, audience []string) (string, error) {
	if asked == "" {
		return strings.Join(slices.DeleteFunc(slices.Clone(client), func(s string) bool {
			_, ok := slices.BinarySearch(audience, s)
			return !ok
		}), " "), nil
	}
	list := strings.Split(asked, " ")
	if len(list) > maxScopes {
		return "", refusal.New("invalid_scope", "%d scopes are too many: at most %d are allowed", len(list), maxScopes)
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
	return strings.Join(distinct(list), " "), nil
}
