// Package challenge writes the header WWW-Authenticate of answers that ask for another bearer token (RFC 6750, section 3):
//
//	Bearer realm="orders"                                             no token was sent
//	Bearer realm="orders", error="invalid_token"                      it is invalid
//	Bearer realm="orders", error="insufficient_scope", scope="read"   it lacks a scope
package challenge

import (
	"strings"

	"keymill/issuer/refusal"
)

// An Error is a refusal that says which token is needed.
type Error struct {
	*refusal.Refusal
	Challenge string // of the header WWW-Authenticate
}

// Unwrap returns the refusal.
func (e *Error) Unwrap() error { return e.Refusal }

// New returns a refusal with a challenge for an audience, which is visible ASCII. The parameters follow the realm, such as
// error="invalid_token".
func New(r *refusal.Refusal, audience string, parameters ...string) *Error {
	realm := `Bearer realm="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(audience) + `"` // RFC 9110, section 5.6.4
	return &Error{r, strings.Join(append([]string{realm}, parameters...), ", ")}
}
