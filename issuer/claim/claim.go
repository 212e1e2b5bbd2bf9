// Package claim decides which claims users, clients and audiences can have in tokens, besides those that the server
// sets, and writes the claims of a token.
package claim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"keymill/issuer/refusal"
)

// reserved are the claims that this server sets (RFC 7519, section 4.1; RFC 9068, section 2.2), and
// those that verifiers trust as the issuer's (OpenID Connect Core, section 2; RFC 7800, 8693, 9396).
// Custom claims cannot have these names in any case: encoding/json and other libraries ignore case.
var reserved = map[string]bool{
	"iss": true, "sub": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true, "client_id": true,
	"scope": true, "sid": true, "token_type": true, "user_id": true, "cnf": true, "act": true, "may_act": true,
	"azp": true, "acr": true, "amr": true, "auth_time": true, "nonce": true, "at_hash": true, "c_hash": true,
	"authorization_details": true, "events": true, "typ": true, "scp": true, "active": true, "username": true,
	"_claim_names": true, "_claim_sources": true, // OpenID Connect Core, section 5.6.2: they say where claims are that the token lacks
}

// IsReserved reports whether no custom claim can have that name, in any case.
func IsReserved(name string) bool { return reserved[strings.ToLower(name)] }

const (
	maxNameBytes  = 200
	maxClaims     = 20
	maxClaimBytes = 2 << 10 // of all of a user
	maxFlatBytes  = 1 << 10 // of all of a client, or of an audience. With both a token stays below 8 KiB, which proxies allow for a header
	maxClaimDepth = 8
)

// Check returns the claims of a user as one JSON object in canonical form, nil if there are none. In that
// form no object has a member twice: verifiers differ about which of two they read.
func Check(claims map[string]json.RawMessage) (json.RawMessage, error) {
	return check(claims, maxClaimBytes, func(name string, v any) error {
		if depth(v) > maxClaimDepth {
			return refusal.New("invalid_request", "claim '%s' is nested too deeply", refusal.Quoted(name))
		}
		return nil
	})
}

// CheckFlat is Check for the claims of a client or an audience: only texts, numbers, true, false, null and lists of
// these. An object would have names of its own, which no one compares with those of the server.
func CheckFlat(claims map[string]json.RawMessage) (json.RawMessage, error) {
	return check(claims, maxFlatBytes, func(name string, v any) error {
		if !flat(v) {
			return refusal.New("invalid_request", "claim '%s' must be a text, a number, true, false, null or a list of these", refusal.Quoted(name))
		}
		return nil
	})
}

func check(claims map[string]json.RawMessage, most int, value func(name string, v any) error) (json.RawMessage, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	if len(claims) > maxClaims {
		return nil, refusal.New("invalid_request", "%d claims are too many: at most %d", len(claims), maxClaims)
	}
	canonical := make(map[string]any, len(claims))
	for name, raw := range claims {
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := checkName(name); err != nil {
			return nil, err
		} else if err := d.Decode(&v); err != nil || d.More() {
			return nil, refusal.New("invalid_request", "claim '%s' is not JSON", refusal.Quoted(name))
		} else if err := value(name, v); err != nil {
			return nil, err
		}
		canonical[name] = v
	}
	if err := checkDistinct(slices.Sorted(maps.Keys(claims))); err != nil {
		return nil, err
	}
	b, err := json.Marshal(canonical)
	if err != nil {
		return nil, fmt.Errorf("write claims: %w", err)
	}
	if len(b) > most {
		return nil, refusal.New("invalid_request", "the claims have %d bytes; at most %d are allowed", len(b), most)
	}
	return b, nil
}

// checkName refuses the name of a custom claim that is not possible or that is reserved.
func checkName(name string) error {
	switch {
	case !possibleName(name):
		return refusal.New("invalid_request", "claim name '%.100s' must be 1 to %d visible ASCII characters", refusal.Quoted(name), maxNameBytes)
	case IsReserved(name):
		return refusal.New("invalid_request", "claim '%s' is reserved: the server sets it or verifiers trust it", refusal.Quoted(name))
	}
	return nil
}

// checkDistinct refuses names that are equal or differ only in case.
func checkDistinct(names []string) error {
	seen := make(map[string]string, len(names)) // in lower case → name
	for _, name := range names {
		folded := strings.ToLower(name)
		switch other, twice := seen[folded]; {
		case twice && other == name:
			return refusal.New("invalid_request", "claim '%s' is there twice: it has a value and is mapped", refusal.Quoted(name))
		case twice:
			return refusal.New("invalid_request", "the name of claim '%s' differs from another one only in case", refusal.Quoted(name))
		}
		seen[folded] = name
	}
	return nil
}

func possibleName(name string) bool {
	return name != "" && len(name) <= maxNameBytes && !strings.ContainsFunc(name, invisible)
}

// flat reports whether v is no object and no list, or a list of such values.
func flat(v any) bool {
	_, object := v.(map[string]any)
	list, _ := v.([]any)
	return !object && !slices.ContainsFunc(list, func(in any) bool { return depth(in) > 0 })
}

// Possible reports whether Check can have returned raw: it is in canonical form and within the limits. A
// reserved name is possible, because an earlier version may have reserved fewer.
func Possible(raw json.RawMessage) bool {
	return possible(raw, maxClaimBytes, func(v any) bool { return depth(v) <= maxClaimDepth })
}

// PossibleFlat is Possible for CheckFlat.
func PossibleFlat(raw json.RawMessage) bool { return possible(raw, maxFlatBytes, flat) }

func possible(raw json.RawMessage, most int, value func(v any) bool) bool {
	var claims map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&claims) != nil || len(claims) == 0 || len(claims) > maxClaims || len(raw) > most {
		return false
	}
	for name, v := range claims {
		if !possibleName(name) || !value(v) {
			return false
		}
	}
	b, err := json.Marshal(claims)
	return err == nil && bytes.Equal(b, raw)
}

func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner))
		}
	case []any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner))
		}
	default:
		return 0
	}
	return 1 + deepest
}

// Names returns the names of the claims in an object that Check has returned, sorted.
func Names(raw json.RawMessage) []string {
	var claims map[string]json.RawMessage
	if len(raw) > 0 {
		json.Unmarshal(raw, &claims) // it was checked before it was stored
	}
	return slices.Sorted(maps.Keys(claims))
}

func invisible(c rune) bool { return c < 0x21 || c > 0x7e }
