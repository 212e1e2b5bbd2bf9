// Package audience holds the record of an audience: an API that accepts the server's tokens. An audience
// decides what its verifiers have to understand: the algorithm, the type, the lifetime and the claims.
//
//	audience/<name>   an audience, in JSON
package audience

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/names"
	"keymill/issuer/profile"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/scope"
	"keymill/jwks"
	"keymill/keystore"
)

// Lifetimes of an access token. A day is long, because verifiers do not ask whether it was revoked.
const (
	minTTL     = time.Second
	MaxTTL     = 24 * time.Hour
	DefaultTTL = 15 * time.Minute
)

// A Record is what the store has of an audience.
type Record struct {
	Alg     string   `json:"alg"`
	TTL     int64    `json:"ttl"`    // seconds
	Scopes  []string `json:"scopes"` // sorted
	Profile string   `json:"profile"`
	Clients int      `json:"clients"` // how many name it; kept in their transactions

	Claims json.RawMessage `json:"claims,omitempty"`    // one object, checked
	Map    claim.Mapping   `json:"claim_map,omitempty"` // of the claims of users

	Typ    string    `json:"type,omitempty"`        // of the tokens: "JWT", or "" for at+jwt
	Longer time.Time `json:"longer_until,omitzero"` // tokens of an earlier, longer lifetime have expired then
	Former time.Time `json:"former_until,omitzero"` // tokens of the other type, from before a change, have expired then
}

// Key returns the key of the record of an audience.
func Key(name string) string { return "audience/" + name }

// Decode returns the record that is stored under a key.
func Decode(key string, raw []byte) (*Record, error) {
	return record.Decode(key, raw, (*Record).Possible)
}

// Lifetime returns how long the tokens are valid.
func (rec *Record) Lifetime() time.Duration { return time.Duration(rec.TTL) * time.Second }

// Type returns the type of the tokens.
func (rec *Record) Type() string {
	return cmp.Or(rec.Typ, jwks.TypeAccessToken)
}

// Accepts reports whether the audience can have a token of that type with that exp. A token of the other type
// must be from before a change: then it has expired at Former, and so this type is refused from then on.
func (rec *Record) Accepts(typ string, expires time.Time) bool {
	return typ == rec.Type() || !rec.Former.IsZero() && !expires.After(rec.Former)
}

// Show returns what the admin API shows of the audience.
func (rec *Record) Show(name string) api.Audience {
	a := api.Audience{
		Name: name, Alg: rec.Alg, Type: rec.Type(), TTL: rec.Lifetime().String(), Scopes: rec.Scopes, Profile: rec.Profile,
		BuiltIn: name == adminscope.Audience,
	}
	if !rec.Former.IsZero() {
		a.FormerTypeUntil = &rec.Former
	}
	if len(rec.Claims) > 0 {
		json.Unmarshal(rec.Claims, &a.Claims) // written by us
	}
	a.ClaimMap = api.ClaimMap(maps.Clone(rec.Map))
	return a
}

// Detail returns what an audit record says of the audience. It has no values of claims.
func (rec *Record) Detail() map[string]string {
	d := map[string]string{
		"alg": rec.Alg, "ttl": rec.Lifetime().String(), "scopes": strings.Join(rec.Scopes, " "), "profile": rec.Profile, "type": rec.Type(),
	}
	if names := claim.Names(rec.Claims); len(names) > 0 {
		d["claims"] = strings.Join(names, " ")
	}
	if len(rec.Map) > 0 {
		d["claim_map"] = strings.Join(slices.Sorted(maps.Keys(rec.Map)), " ")
	}
	return d
}

// Possible reports whether this program can have written the record.
func (rec *Record) Possible() bool {
	p, known := profile.Find(rec.Profile)
	return slices.Contains(keystore.SupportedAlgorithms(), rec.Alg) && rec.Lifetime() >= minTTL && rec.Lifetime() <= MaxTTL &&
		(rec.Typ == "" || rec.Typ == jwks.TypeJWT) && known && rec.Profile == p.Name && p.Verifies(rec.Alg) && slices.Contains(p.Types, rec.Type()) && rec.Clients >= 0 &&
		record.PossibleList(rec.Scopes, scope.Max, scope.Valid) &&
		(len(rec.Claims) == 0 || claim.PossibleFlat(rec.Claims)) && rec.Map.Possible() &&
		(rec.Longer.IsZero() || record.PossibleSecond(rec.Longer)) && (rec.Former.IsZero() || record.PossibleSecond(rec.Former))
}

// Check returns the record of an audience whose tokens are signed with one of the algorithms, or refuses it.
func Check(a api.Audience, algorithms []string) (*Record, error) {
	if !names.IsAudience(a.Name) {
		return nil, refusal.New("invalid_request", "audience name '%.100s' must be 1 to %d visible ASCII characters without spaces", refusal.Quoted(a.Name), names.MaxAudienceBytes)
	}
	if a.BuiltIn {
		return nil, refusal.New("invalid_request", "only audience %s is built in: leave out member 'built_in'", adminscope.Audience)
	}
	if a.FormerTypeUntil != nil || a.Warnings != nil {
		return nil, refusal.New("invalid_request", "the members 'former_type_until' and 'warnings' are only in answers: leave them out")
	}
	if !slices.Contains(algorithms, a.Alg) {
		return nil, refusal.New("invalid_request", "algorithm '%.100s' is not in keys.algorithms; choose from %s", refusal.Quoted(a.Alg), strings.Join(algorithms, ", "))
	}
	ttl, err := lifetime(a.TTL)
	if err != nil {
		return nil, err
	}
	scopes, err := scope.Check(a.Scopes)
	if err != nil {
		return nil, err
	}
	if p, known := profile.Find(a.Profile); known && a.Type == "" {
		a.Type = p.Types[0]
	}
	p, err := profile.Check(a.Profile, a.Alg, a.Type, algorithms)
	if err != nil {
		return nil, err
	}
	claims, err := claim.CheckFlat(a.Claims)
	if err != nil {
		return nil, err
	}
	if err := claim.Mapping(a.ClaimMap).Check(a.Claims); err != nil {
		return nil, err
	}
	rec := &Record{Claims: claims, Map: maps.Clone(claim.Mapping(a.ClaimMap)), Alg: a.Alg, TTL: int64(ttl / time.Second), Scopes: scopes, Profile: p.Name}
	if a.Type != jwks.TypeAccessToken {
		rec.Typ = a.Type
	}
	return rec, nil
}

func lifetime(text string) (time.Duration, error) {
	ttl, err := time.ParseDuration(text)
	if err != nil || ttl < minTTL || ttl > MaxTTL || ttl%time.Second != 0 {
		return 0, refusal.New("invalid_request", "ttl '%.100s' is not 1s to 24h in whole seconds; write for example 15m", refusal.Quoted(text))
	}
	return ttl, nil
}
