// Package profile says what tokens look like to the software that verifies them. An audience has a profile:
//
//	profile     type             algorithms     claims
//	rfc9068     at+jwt, or JWT   all            of RFC 9068
//	simplejwt   at+jwt, or JWT   RS256          and token_type, user_id: for djangorestframework-simplejwt
//	spring      JWT              RS256, ES256   of RFC 9068: for Spring Security, which knows no other type or
//	                                            algorithm unless it is configured
//
// The first type is the default. What the software does with typ: Nimbus JOSE + JWT accepts JWT and none, and
// so does Spring Security, since version 7 in exactly this spelling. Of .NET, a service that lists ValidTypes
// compares them byte for byte. So a type is always written as it stands here, although the comparison of
// RFC 7515, section 4.1.9 ignores case.
package profile

import (
	"slices"
	"strings"

	"keymill/issuer/refusal"
	"keymill/jwks"
)

// The names of the profiles.
const (
	RFC9068   = "rfc9068"
	SimpleJWT = "simplejwt"
	Spring    = "spring"
)

// A Profile is a line of the table.
type Profile struct {
	Name       string
	Types      []string // that the tokens can have; the first is the default
	Algorithms []string // that the software verifies, the default first; nil if it verifies all
	Software   string   // that verifies the tokens
	Django     bool     // the claims token_type and user_id are added
}

var table = []Profile{
	{Name: RFC9068, Types: []string{jwks.TypeAccessToken, jwks.TypeJWT}},
	{Name: SimpleJWT, Types: []string{jwks.TypeAccessToken, jwks.TypeJWT}, Algorithms: []string{jwks.RS256}, Software: "djangorestframework-simplejwt", Django: true},
	{Name: Spring, Types: []string{jwks.TypeJWT}, Algorithms: []string{jwks.RS256, jwks.ES256}, Software: "Spring Security"},
}

// Names returns the names of the profiles; the first is that of the default.
func Names() []string {
	var names []string
	for _, p := range table {
		names = append(names, p.Name)
	}
	return names
}

// Find returns the profile with that name. "" is that of RFC 9068.
func Find(name string) (Profile, bool) {
	if name == "" {
		name = RFC9068
	}
	n := slices.IndexFunc(table, func(p Profile) bool { return p.Name == name })
	if n < 0 {
		return Profile{}, false
	}
	return table[n], true
}

// Verifies reports whether the software verifies signatures of the algorithm.
func (p Profile) Verifies(alg string) bool {
	return p.Algorithms == nil || slices.Contains(p.Algorithms, alg)
}

// CheckType refuses what is not a type. The spelling counts: some software compares it byte for byte.
func CheckType(typ string) error {
	if typ != jwks.TypeAccessToken && typ != jwks.TypeJWT {
		return refusal.New("invalid_request", "type '%.100s' is neither %s nor %s", refusal.Quoted(typ), jwks.TypeAccessToken, jwks.TypeJWT)
	}
	return nil
}

// Warnings says what the services of an audience have to prevent because of the type of its tokens.
func Warnings(audience, typ string) []string {
	if typ != jwks.TypeJWT {
		return nil
	}
	return []string{"the type JWT does not tell access tokens from ID tokens, so no ID token may ever have the audience " + audience +
		": this server makes none; its services must trust no other issuer for it"}
}

// Check returns the profile with that name, or refuses it together with an algorithm or a type. The
// algorithms are those that can be chosen.
func Check(name, alg, typ string, algorithms []string) (Profile, error) {
	p, known := Find(name)
	switch {
	case !known:
		return p, refusal.New("invalid_request", "profile '%.100s' is none of %s", refusal.Quoted(name), strings.Join(Names(), ", "))
	case !p.Verifies(alg):
		can := slices.DeleteFunc(slices.Clone(algorithms), func(a string) bool { return !p.Verifies(a) })
		if len(can) == 0 {
			return p, refusal.New("invalid_request", "%s cannot verify %s, and %s is not in keys.algorithms", p.Software, alg, strings.Join(p.Algorithms, " or "))
		}
		return p, refusal.New("invalid_request", "%s cannot verify %s: give this audience alg %s", p.Software, alg, strings.Join(can, " or "))
	}
	if err := CheckType(typ); err != nil {
		return p, err
	}
	if !slices.Contains(p.Types, typ) {
		return p, refusal.New("invalid_request", "type '%s' does not fit profile %s: %s accepts %s only", typ, p.Name, p.Software, strings.Join(p.Types, " and "))
	}
	return p, nil
}
