// Package audience holds the record of an audience: an API that accepts the server's tokens. An audience
// decides what its verifiers have to understand: the algorithm, the lifetime and the claims.
//
//	audience/<name>   an audience, in JSON
package audience

import (
	"slices"
	"strings"
	"time"

	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/names"
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

// Profiles of the claims.
const (
	RFC9068   = "rfc9068"
	SimpleJWT = "simplejwt" // with the claims that djangorestframework-simplejwt needs
)

// A Record is what the store has of an audience.
type Record struct {
	Alg     string   `json:"alg"`
	TTL     int64    `json:"ttl"`    // seconds
	Scopes  []string `json:"scopes"` // sorted
	Profile string   `json:"profile"`
	Clients int      `json:"clients"` // how many name it; kept in their transactions
}

// Key returns the key of the record of an audience.
func Key(name string) string { return "audience/" + name }

// Decode returns the record that is stored under a key.
func Decode(key string, raw []byte) (*Record, error) {
	return record.Decode(key, raw, (*Record).Possible)
}

// Lifetime returns how long the tokens are valid.
func (rec *Record) Lifetime() time.Duration { return time.Duration(rec.TTL) * time.Second }

// Show returns what the admin API shows of the audience.
func (rec *Record) Show(name string) api.Audience {
	return api.Audience{Name: name, Alg: rec.Alg, TTL: rec.Lifetime().String(), Scopes: rec.Scopes, Profile: rec.Profile, BuiltIn: name == adminscope.Audience}
}

// Detail returns what an audit record says of the audience.
func (rec *Record) Detail() map[string]string {
	return map[string]string{
		"alg": rec.Alg, "ttl": rec.Lifetime().String(), "scopes": strings.Join(rec.Scopes, " "), "profile": rec.Profile,
	}
}

// Possible reports whether this program can have written the record.
func (rec *Record) Possible() bool {
	return slices.Contains(keystore.SupportedAlgorithms(), rec.Alg) && rec.Lifetime() >= minTTL && rec.Lifetime() <= MaxTTL &&
		(rec.Profile == RFC9068 || rec.Profile == SimpleJWT && rec.Alg == jwks.RS256) && rec.Clients >= 0 &&
		record.PossibleList(rec.Scopes, scope.Max, scope.Valid)
}

// Check returns the record of an audience whose tokens are signed with one of the algorithms, or refuses it.
func Check(a api.Audience, algorithms []string) (*Record, error) {
	if !names.IsAudience(a.Name) {
		return nil, refusal.New("invalid_request", "audience name '%.100s' must be 1 to %d visible ASCII characters without spaces", refusal.Quoted(a.Name), names.MaxAudienceBytes)
	}
	if a.BuiltIn {
		return nil, refusal.New("invalid_request", "only audience %s is built in: leave out member 'built_in'", adminscope.Audience)
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
	switch {
	case a.Profile == "":
		a.Profile = RFC9068
	case a.Profile == SimpleJWT && a.Alg != "RS256":
		return nil, refusal.New("invalid_request", "djangorestframework-simplejwt cannot verify %s: give this audience alg RS256", a.Alg)
	case a.Profile != RFC9068 && a.Profile != SimpleJWT:
		return nil, refusal.New("invalid_request", "profile '%.100s' is neither rfc9068 nor simplejwt", refusal.Quoted(a.Profile))
	}
	return &Record{Alg: a.Alg, TTL: int64(ttl / time.Second), Scopes: scopes, Profile: a.Profile}, nil
}

func lifetime(text string) (time.Duration, error) {
	ttl, err := time.ParseDuration(text)
	if err != nil || ttl < minTTL || ttl > MaxTTL || ttl%time.Second != 0 {
		return 0, refusal.New("invalid_request", "ttl '%.100s' is not 1s to 24h in whole seconds; write for example 15m", refusal.Quoted(text))
	}
	return ttl, nil
}
