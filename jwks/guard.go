package jwks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The errors of requests that carry no token or carry it wrongly, for errors.Is.
var (
	ErrNoToken     = errors.New("no bearer token")
	ErrCredentials = errors.New("not one bearer token in one Authorization header")
)

// A Guard passes requests with a valid token to a handler, and refuses the others itself (RFC
// 6750, section 3):
//
//	no token, or another scheme        401  Bearer realm="orders"
//	a token that is sent wrongly       400  …, error="invalid_request"
//	a token that is not valid          401  …, error="invalid_token"
//	a token without a required scope   403  …, error="insufficient_scope", scope="read write"
//	no keys to check the token with    503  Retry-After
//
// All invalid tokens get the same response, byte for byte. The realm is the audience of the
// verifier.
//
// The token must be in the Authorization header. A token in the query is refused even if the
// header has a valid one, because it is already in logs and histories. So no route behind a
// Guard can have a parameter named access_token. A token in a form is ignored: the Guard does
// not read the body.
//
// Every method needs a token, HEAD and OPTIONS too: the handler's response to them may reveal
// as much as its response to GET. The preflight request of a browser has no token, so a handler
// for CORS belongs in front of the Guard.
//
// The Authorization header stays in the request, for handlers that call other services for
// the same user. A handler that forwards requests to a service that must not see the token
// has to remove the header.
type Guard struct {
	Verifier *Verifier // required

	// Refused, if it is not nil, is called with the reason why a request was refused. Use
	// errors.Is and errors.As, with *Failure, to tell reasons apart. It is for logs and
	// metrics: the client gets only the responses above. Neither r, which is a copy, nor why
	// contains the token. Refused is not called if the client left while the Guard was
	// waiting for keys.
	//
	// Without it the Guard says nothing about single requests. A Remote still logs when it has
	// no keys, and when it has some again, see RemoteConfig.Log.
	Refused func(r *http.Request, why error)
}

// Require returns a handler that passes to next the requests with a valid token that grants
// all of scopes. It panics if there is no verifier or no next, and if a scope is not valid.
// These are mistakes in the program, and the first request would be too late to notice them.
func (g Guard) Require(next http.Handler, scopes ...string) http.Handler {
	if g.Verifier == nil || g.Verifier.Audience() == "" {
		panic("jwks: a Guard needs a Verifier from NewVerifier")
	}
	if f, ok := next.(http.HandlerFunc); next == nil || ok && f == nil {
		panic("jwks: a Guard needs a handler to guard")
	}
	for _, scope := range scopes {
		if !IsScope(scope) {
			panic(fmt.Sprintf("jwks: %q is not one scope (RFC 6749, section 3.3)", scope))
		}
	}
	realm := "Bearer realm=" + quote(g.Verifier.Audience())
	noScope := challenge(http.StatusForbidden, realm, "insufficient_scope", "the access token does not grant the required scope")
	noScope.challenge += `, scope="` + strings.Join(scopes, " ") + `"`
	return &guardHandler{
		Guard:     g,
		next:      next,
		scopes:    slices.Clone(scopes),
		noToken:   errorResponse{status: http.StatusUnauthorized, challenge: realm, body: "{}"},
		misplaced: challenge(http.StatusBadRequest, realm, "invalid_request", "exactly one bearer token in one Authorization header is required"),
		badToken:  challenge(http.StatusUnauthorized, realm, "invalid_token", "the access token is invalid, expired or for another audience"),
		noScope:   noScope,
		noKeys:    errorResponse{status: http.StatusServiceUnavailable, body: `{"error":"temporarily_unavailable"}`},
	}
}

// IsScope reports whether s is one valid scope (RFC 6749, section 3.3). The guards panic for
// any other text, which no token can grant, so check scopes that come from settings first.
func IsScope(s string) bool {
	for _, c := range []byte(s) { // 1*( %x21 / %x23-5B / %x5D-7E )
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

type claimsKey struct{}

// ClaimsOf returns the claims of the token that a Guard accepted, and nil if there was no
// Guard. They belong to the request, so the handler may change them.
func ClaimsOf(ctx context.Context) *Claims {
	c, _ := ctx.Value(claimsKey{}).(*Claims)
	return c
}

// WithClaims returns a context with the claims c, as the guards of HTTP and gRPC pass it to
// handlers. Tests of handlers use it too.
func WithClaims(ctx context.Context, c *Claims) context.Context {
	return context.WithValue(ctx, claimsKey{}, c)
}

// A guardHandler is a handler behind a Guard. Its error responses are built before the first
// request, so no text of a request can get into them.
type guardHandler struct {
	Guard
	next   http.Handler
	scopes []string

	noToken, misplaced, badToken, noScope, noKeys errorResponse
}

// ServeHTTP implements http.Handler.
func (h *guardHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	claims, err := h.authorize(r)
	if err != nil {
		// An invalid token is reported even if its sender has left. Otherwise an attacker could
		// leave early to stay out of the log.
		left := errors.Is(err, ErrUnavailable) && errors.Is(r.Context().Err(), context.Canceled)
		if h.Refused != nil && !left {
			h.Refused(withoutToken(r), err)
		}
		h.responseTo(err).write(w)
		return
	}
	h.next.ServeHTTP(w, r.WithContext(WithClaims(r.Context(), claims)))
}

func (h *guardHandler) authorize(r *http.Request) (*Claims, error) {
	if tokenInQuery(r.URL.RawQuery) {
		return nil, fmt.Errorf("%w: it is in the query", ErrCredentials)
	}
	token, err := Bearer(r.Header.Values("Authorization"))
	if err != nil {
		return nil, err
	}
	claims, err := h.Verifier.Verify(r.Context(), token)
	if err != nil {
		return nil, err
	}
	if err := claims.Grants(h.scopes...); err != nil {
		return nil, err
	}
	return claims, nil
}

// responseTo returns the response to a request that was refused with why. Every error that it
// does not list means that the token is invalid.
func (h *guardHandler) responseTo(why error) errorResponse {
	switch {
	case errors.Is(why, ErrNoToken):
		return h.noToken
	case errors.Is(why, ErrCredentials):
		return h.misplaced
	case errors.Is(why, ErrScope):
		return h.noScope
	case errors.Is(why, ErrUnavailable):
		// Also if the client seems to have left: net/http sends 200 if nothing is written.
		return h.noKeys
	}
	return h.badToken
}

// An errorResponse is the response to a request that the Guard does not pass on.
type errorResponse struct {
	status    int
	challenge string // WWW-Authenticate; "" if another token would not help
	body      string
}

func challenge(status int, realm, code, description string) errorResponse {
	return errorResponse{
		status:    status,
		challenge: realm + `, error="` + code + `", error_description="` + description + `"`,
		body:      `{"error":"` + code + `"}`,
	}
}

func (e errorResponse) write(w http.ResponseWriter) {
	header := w.Header()
	if e.challenge == "" { // the Remote does not fetch again before its cooldown, usually this one
		header.Set("Retry-After", strconv.Itoa(int(DefaultCooldown/time.Second)))
	} else {
		header.Set("WWW-Authenticate", e.challenge)
	}
	header.Set("Cache-Control", "no-store") // a cached response would be sent to the next client
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(e.body)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(e.status)
	w.Write([]byte(e.body)) // an error means that the client has gone, or that the method is HEAD
}

// withoutToken returns a copy of r that can be logged.
func withoutToken(r *http.Request) *http.Request {
	shown := r.WithContext(r.Context()) // a shallow copy
	shown.Header = maps.Clone(r.Header)
	shown.Header.Del("Authorization")
	if tokenInQuery(r.URL.RawQuery) {
		location := *r.URL
		location.RawQuery = ""
		shown.URL, shown.RequestURI, shown.Form = &location, location.RequestURI(), nil
	}
	return shown
}

// tokenInQuery reports whether the query has a parameter access_token. It splits at ";" as
// well: net/url ignores such a pair, but another reader behind the Guard may not.
func tokenInQuery(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if plain, _ := url.QueryUnescape(name); plain == "access_token" {
			return true
		}
	}
	return false
}

// quote returns s as a quoted-string (RFC 9110, section 5.6.4). It replaces characters that are
// not allowed there, such as line ends, by "?".
func quote(s string) string {
	quoted := []byte{'"'}
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			quoted = append(quoted, '\\')
		case c < ' ' || c > '~':
			c = '?'
		}
		quoted = append(quoted, c)
	}
	return string(append(quoted, '"'))
}
