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

// Why a Guard refused though no check of Check failed, for errors.Is.
var (
	ErrNoToken     = errors.New("no bearer token")
	ErrCredentials = errors.New("not one bearer token in one Authorization header")
)

// A Guard lets requests with a good token through to a handler, and answers the others
// itself (RFC 6750, section 3):
//
//	no token, or another scheme      401  Bearer realm="orders"
//	a token that is carried wrongly  400  …, error="invalid_request"
//	a token that is not good         401  …, error="invalid_token"
//	one without a scope              403  …, error="insufficient_scope", scope="read write"
//	no keys to judge it by           503  Retry-After
//
// Whatever is wrong with a token, the answer is the same to the byte. The realm is the
// verifier's audience.
//
// A token comes in the Authorization header. One in the query is refused even beside a
// good header, since it is by then in logs and histories; so no route behind a Guard can
// have a parameter access_token. One in a form is not seen: the body belongs to the
// handler, which gets it unread.
//
// Every method needs a token, HEAD and OPTIONS too: a handler's answer to them may tell as
// much as its answer to GET. A browser's preflight carries no token, so what answers CORS
// stands in front of the Guard.
//
// The Authorization header stays on the request, for handlers that call others on behalf
// of the same user. One that passes requests on to where the token does not belong must
// remove it.
type Guard struct {
	Verifier *Verifier

	// Refused, if it is set, hears why a request was refused; errors.Is tells the reasons
	// apart. It is for logs and metrics: the client learns only what is said above. Neither
	// r, which is a copy, nor why holds the token. A client that left while the keys were
	// waited for was not refused.
	Refused func(r *http.Request, why error)
}

// Require returns a handler that passes to next what carries a good token with all of
// scopes. It panics without a verifier, a next or on what is no scope: each is a mistake in
// the wiring, and the first request is too late to learn of it.
func (g Guard) Require(next http.Handler, scopes ...string) http.Handler {
	if g.Verifier == nil || g.Verifier.Audience() == "" {
		panic("jwks: a Guard needs a Verifier that NewVerifier made")
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
	noScope := challenge(http.StatusForbidden, realm, "insufficient_scope", "the access token does not grant enough")
	noScope.challenge += `, scope="` + strings.Join(scopes, " ") + `"`
	return &guarded{
		Guard:     g,
		next:      next,
		scopes:    slices.Clone(scopes),
		noToken:   refusal{status: http.StatusUnauthorized, challenge: realm, body: "{}"},
		misplaced: challenge(http.StatusBadRequest, realm, "invalid_request", "one bearer token in one Authorization header is needed"),
		badToken:  challenge(http.StatusUnauthorized, realm, "invalid_token", "the access token is not good here"),
		noScope:   noScope,
		noKeys:    refusal{status: http.StatusServiceUnavailable, body: `{"error":"temporarily_unavailable"}`},
	}
}

// IsScope reports whether s is one scope (RFC 6749, section 3.3). No token grants what is
// none, so the guards panic on it: ask first about one that comes from settings.
func IsScope(s string) bool {
	for _, c := range []byte(s) { // 1*( %x21 / %x23-5B / %x5D-7E )
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

type claimsKey struct{}

// ClaimsOf returns the claims of the token that a Guard let through, nil outside of one.
// They are the request's own: nobody else sees what is changed in them.
func ClaimsOf(ctx context.Context) *Claims {
	c, _ := ctx.Value(claimsKey{}).(*Claims)
	return c
}

// WithClaims returns a context that carries c, as the guards of HTTP and gRPC hand it to
// handlers.
func WithClaims(ctx context.Context, c *Claims) context.Context {
	return context.WithValue(ctx, claimsKey{}, c)
}

// A guarded is a handler behind a Guard. Its refusals were written before there was a
// request, so nothing of one can get into them.
type guarded struct {
	Guard
	next   http.Handler
	scopes []string

	noToken, misplaced, badToken, noScope, noKeys refusal
}

func (h *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	claims, err := h.judge(r)
	if err != nil {
		// A bad token is told even if its sender left at once, or thieves would.
		left := errors.Is(err, ErrUnavailable) && errors.Is(r.Context().Err(), context.Canceled)
		if h.Refused != nil && !left {
			h.Refused(withoutToken(r), err)
		}
		h.refusal(err).write(w)
		return
	}
	h.next.ServeHTTP(w, r.WithContext(WithClaims(r.Context(), claims)))
}

func (h *guarded) judge(r *http.Request) (*Claims, error) {
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

// refusal ends with badToken: what it does not know is the token's fault.
func (h *guarded) refusal(why error) refusal {
	switch {
	case errors.Is(why, ErrNoToken):
		return h.noToken
	case errors.Is(why, ErrCredentials):
		return h.misplaced
	case errors.Is(why, ErrScope):
		return h.noScope
	case errors.Is(why, ErrUnavailable):
		// Also where the client seems to have left: to write nothing is to say 200.
		return h.noKeys
	}
	return h.badToken
}

// A refusal is an answer without a token's leave.
type refusal struct {
	status    int
	challenge string // WWW-Authenticate; "" where another token would not help
	body      string
}

func challenge(status int, realm, code, description string) refusal {
	return refusal{
		status:    status,
		challenge: realm + `, error="` + code + `", error_description="` + description + `"`,
		body:      `{"error":"` + code + `"}`,
	}
}

func (a refusal) write(w http.ResponseWriter) {
	header := w.Header()
	if a.challenge == "" { // sooner, nobody may fetch: that is the usual cooldown
		header.Set("Retry-After", strconv.Itoa(int(DefaultCooldown/time.Second)))
	} else {
		header.Set("WWW-Authenticate", a.challenge)
	}
	header.Set("Cache-Control", "no-store") // or a cache would refuse the next one, too
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(a.body)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(a.status)
	w.Write([]byte(a.body)) // an error means the client has gone, or asked with HEAD
}

// withoutToken is r as a log may see it.
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

// tokenInQuery also splits at ";": net/url skips such a pair, what stands behind a Guard
// may read it.
func tokenInQuery(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if plain, _ := url.QueryUnescape(name); plain == "access_token" {
			return true
		}
	}
	return false
}

// quote writes a quoted-string (RFC 9110, section 5.6.4). What may not stand in one, line
// ends above all, becomes "?".
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
