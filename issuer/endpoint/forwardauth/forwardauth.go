// Package forwardauth answers proxies that ask whether a request may pass, as auth_request of nginx and forward_auth of
// Caddy and Traefik do:
//
//	client ──▶ proxy ──GET /verify?audience=orders&scope=read──▶ Keymill
//	             │                        with the client's Authorization
//	             └── 204, and the four headers of it ──▶ service
//
// The answer is 204 only if the token is valid at this moment: everything that POST /introspect checks is checked for
// each request, and nothing is cached. Otherwise it is
//
//	400         the query is wrong, or its audience does not exist: a mistake in the proxy's configuration
//	401         there is no token, it is not valid, or there is more than one
//	403         it lacks a scope
//	500, 503    the server cannot tell
//
// A proxy lets a request in on 2xx only. nginx makes 500 of anything but 2xx, 401 and 403, so a client gets none of the
// others for its own mistakes.
//
// The token comes from the header Authorization and from nowhere else. The query is the proxy's: a parameter that
// is unknown, empty or malformed, or an audience that is given twice, is refused, because a proxy that passes its client's
// query on lets the client write it.
package forwardauth

import (
	"errors"
	"net/http"
	"strings"

	"keymill/issuer"
	"keymill/issuer/accesstoken"
	"keymill/issuer/endpoint/challenge"
	"keymill/issuer/refusal"
	"keymill/jwks"
)

// Path is where proxies ask.
const Path = "/verify"

// A Gate answers proxies. It is safe for concurrent use.
type Gate struct{ issuer *issuer.Issuer }

// New returns a Gate for tokens of the issuer.
func New(i *issuer.Issuer) *Gate { return &Gate{i} }

// Serve answers GET of Path with 204, or returns an error and has written nothing.
func (g *Gate) Serve(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuestion(r.URL.RawQuery)
	if err != nil {
		return err
	}
	token, unread := jwks.Bearer(r.Header["Authorization"])
	if unread != nil {
		token = "" // the audience is looked up all the same, so that a wrong one is found with the first request
	}
	found, err := g.issuer.VerifyFor(r.Context(), q.audience, refusal.Secret(token))
	switch {
	case err != nil && !errors.Is(err, accesstoken.ErrInvalid):
		return orUnknown(err, q.audience)
	case unread != nil:
		return q.refuseUnread(unread)
	case err != nil:
		return q.refuse("the access token is invalid, expired, revoked or for another audience", err)
	}
	if claims := (&jwks.Claims{Scope: found.Scope}); claims.Grants(q.scopes...) != nil {
		return q.refuseScope()
	}
	headers, err := headersOf(found)
	if err != nil {
		return q.refuse("the claims of the access token do not fit into headers", err)
	}
	for name, value := range headers {
		w.Header()[name] = []string{value}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// orUnknown returns what is wrong with the query if err says that there is no such audience.
func orUnknown(err error, audience string) error {
	if refused := (*refusal.Refusal)(nil); !errors.As(err, &refused) {
		return err
	}
	refused := refusal.New("invalid_request", "audience '%.200s' does not exist: correct the query in the proxy's configuration, or run keymill audience add", audience)
	refused.Cause = err
	return refused
}

func (q *question) refuse(why string, cause error) error {
	refused := refusal.New("invalid_token", "%s", why)
	refused.Cause = cause
	return challenge.New(refused, q.audience, `error="invalid_token"`)
}

// refuseUnread refuses a request without exactly one token. A client that has sent none learns only that it needs one
// (RFC 6750, section 3.1).
func (q *question) refuseUnread(cause error) error {
	if !errors.Is(cause, jwks.ErrNoToken) {
		return q.refuse("the request needs exactly one header Authorization, with one bearer token", cause)
	}
	refused := refusal.New("no_token", "the request needs an access token in the header Authorization: Bearer")
	refused.Cause = cause
	return challenge.New(refused, q.audience)
}

func (q *question) refuseScope() error {
	needed := strings.Join(q.scopes, " ")
	refused := refusal.New("insufficient_scope", "the access token does not grant all of: %s", needed)
	return challenge.New(refused, q.audience, `error="insufficient_scope"`, `scope="`+needed+`"`)
}
