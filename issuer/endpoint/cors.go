package endpoint

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"keymill/issuer/refusal"
)

// CORS (Fetch standard, section 3.3): which pages may read an answer. Public documents
// allow all origins. /token, /revoke and the login endpoints allow the origins that a
// client lists; only the browser endpoint allows cookies. Other paths allow none.
var (
	anyOrigin      = []string{"*"}
	varyOrigin     = []string{"Origin"}
	varyPreflight  = []string{"Origin, Access-Control-Request-Headers"}
	allowedMethod  = []string{http.MethodPost}
	preflightAge   = []string{"600"}
	withCookies    = []string{"true"}
	readableByPage = []string{"Retry-After"}

	documentMethods = []string{"GET, HEAD"}
)

// requestedOrigin returns the origin of a preflight request. Any other OPTIONS request is
// refused.
func requestedOrigin(w http.ResponseWriter, r *http.Request) (string, error) {
	origins := r.Header["Origin"]
	if len(origins) != 1 || r.Header.Get("Access-Control-Request-Method") == "" {
		w.Header()["Allow"] = allowedMethod
		return "", errMethod
	}
	return origins[0], nil
}

func answerPreflight(w http.ResponseWriter, r *http.Request, origin string, allowed bool) error {
	header := w.Header()
	header["Vary"] = varyPreflight
	if !allowed {
		return originError("no client lists this origin", origin)
	}
	if err := allowHeaders(header, r.Header["Access-Control-Request-Headers"]); err != nil {
		return err
	}
	header["Access-Control-Allow-Origin"] = []string{origin}
	header["Access-Control-Allow-Methods"] = allowedMethod
	header["Access-Control-Max-Age"] = preflightAge
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// documentOptions answers every OPTIONS request for a public document, preflight or not:
// there is no origin to refuse.
func documentOptions(w http.ResponseWriter, r *http.Request) error {
	header := w.Header()
	header["Vary"] = varyPreflight
	if err := allowHeaders(header, r.Header["Access-Control-Request-Headers"]); err != nil {
		return err
	}
	header["Allow"] = documentMethods
	header["Access-Control-Allow-Origin"] = anyOrigin
	header["Access-Control-Allow-Methods"] = documentMethods
	header["Access-Control-Max-Age"] = preflightAge
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// The bounds of Access-Control-Request-Headers. A page with tracing sends about ten names.
const (
	maxAskedHeaders      = 32
	maxAskedHeadersBytes = 1 << 10
)

// allowHeaders allows the headers that a preflight asks for. Front ends and tracing libraries
// add headers of their own, so no fixed list would be complete, and headers that this server
// does not read have no effect. The answer repeats only tokens (RFC 9110, section 5.6.2), so
// that a request cannot write anything else into it.
func allowHeaders(header http.Header, asked []string) error {
	size := 0
	var names []string
	for _, line := range asked {
		if size += len(line); size > maxAskedHeadersBytes {
			return errAskedHeaders
		}
		for name := range strings.SplitSeq(line, ",") {
			name = strings.Trim(name, " \t")
			if name == "" {
				continue // RFC 9110, section 5.6.1.2
			}
			if len(names) == maxAskedHeaders || strings.ContainsFunc(name, notTokenChar) {
				return errAskedHeaders
			}
			names = append(names, name)
		}
	}
	if names != nil {
		header["Access-Control-Allow-Headers"] = []string{strings.Join(names, ", ")}
	}
	return nil
}

func notTokenChar(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
}

var errAskedHeaders = refusal.New("invalid_request",
	"Access-Control-Request-Headers must be a list of at most %d header names and %d bytes", maxAskedHeaders, maxAskedHeadersBytes)

// preflight allows the origins of all clients, because a preflight request does not name a
// client. The answer to the POST request that follows allows only those of its client.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) error {
	origin, err := requestedOrigin(w, r)
	if err != nil {
		return err
	}
	known, err := s.cfg.Issuer.KnowsOrigin(r.Context(), origin)
	if err != nil {
		return err
	}
	return answerPreflight(w, r, origin, known)
}

// allowPage lets a page read the answer, also an error, if the client is authenticated and
// lists the page's origin. If the store fails, the page may not read it.
func (s *Server) allowPage(w http.ResponseWriter, r *http.Request, client string, err error) {
	origins := r.Header["Origin"]
	if len(origins) != 1 || !authenticated(err) {
		return
	}
	if listed, err := s.cfg.Issuer.Origins(r.Context(), client); err == nil && slices.Contains(listed, origins[0]) {
		w.Header()["Access-Control-Allow-Origin"] = origins
		w.Header()["Access-Control-Expose-Headers"] = readableByPage
	}
}

// authenticated tells from the result whether the issuer had authenticated the client. A
// forged refresh token is refused before that, and pages of the client may read this
// refusal too: it tells them nothing that they could not find out.
func authenticated(err error) bool {
	if err == nil {
		return true
	}
	var refused *refusal.Refusal
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case "invalid_client", "invalid_request", "unsupported_grant_type", temporarilyUnavailable:
		return false
	}
	return true
}
