// Package claim decides which claims users can have in tokens, besides those that the server sets, and writes the
// claims of a token.
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
}

// IsReserved reports whether users cannot have a claim of that name, in any case.
func IsReserved(name string) bool { return reserved[strings.ToLower(name)] }

const (
	maxNameBytes  = 200
	maxClaims     = 20
	maxClaimBytes = 2 << 10 // of all together
	maxClaimDepth = 8
)

// Check returns claims as one JSON object in canonical form, nil if there are none. In that
// form no object has a member twice: verifiers differ about which of two they read.
func Check(claims map[string]json.RawMessage) (json.RawMessage, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	if len(claims) > maxClaims {
		return nil, refusal.New("invalid_request", "%d claims are too many: at most %d", len(claims), maxClaims)
	}
	canonical := make(map[string]any, len(claims))
	folded := make(map[string]bool, len(claims))
	for name, raw := range claims {
		switch {
		case name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, invisible):
			return nil, refusal.New("invalid_request", "claim name '%.100s' must be 1 to %d visible ASCII characters", refusal.Quoted(name), maxNameBytes)
		case IsReserved(name):
			return nil, refusal.New("invalid_request", "claim '%s' is reserved: the server sets it or verifiers trust it", refusal.Quoted(name))
		case folded[strings.ToLower(name)]:
			return nil, refusal.New("invalid_request", "the name of claim '%s' differs from another one only in case", refusal.Quoted(name))
		}
		folded[strings.ToLower(name)] = true
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil || d.More() || depth(v) > maxClaimDepth {
			return nil, refusal.New("invalid_request", "claim '%s' is not JSON or is nested too deeply", refusal.Quoted(name))
		}
		canonical[name] = v
	}
	b, err := json.Marshal(canonical)
	if err != nil {
		return nil, fmt.Errorf("write claims: %w", err)
	}
	if len(b) > maxClaimBytes {
		return nil, refusal.New("invalid_request", "the claims have %d bytes; at most %d are allowed", len(b), maxClaimBytes)
	}
	return b, nil
}

// Possible reports whether Check can have returned raw: it is in canonical form and within the limits. A
// reserved name is possible, because an earlier version may have reserved fewer.
func Possible(raw json.RawMessage) bool {
	var claims map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&claims) != nil || len(claims) == 0 || len(claims) > maxClaims || len(raw) > maxClaimBytes || depth(claims) > 1+maxClaimDepth {
		return false
	}
	for name := range claims {
		if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, invisible) {
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
