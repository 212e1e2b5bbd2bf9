package endpoint

import (
	"errors"
	"net/http"

	"keymill/issuer/refusal"
)

// CORS (Fetch standard, section 3.3): which pages may read an answer. Public documents
// allow all origins. /token, /revoke and the login endpoints allow the origins that a
// client lists; only the browser endpoint allows cookies. Other paths allow none.
var (
	anyOrigin      = []string{"*"}
	varyOrigin     = []string{"Origin"}
	allowedMethod  = []string{http.MethodPost}
	preflightAge   = []string{"600"}
	withCookies    = []string{"true"}
	readableByPage = []string{"Retry-After"}

	// Front ends written for Django send the last two by default.
	allowedHeaders = []string{"Authorization, Content-Type, X-CSRFToken, X-Requested-With"}
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

func answerPreflight(w http.ResponseWriter, origin string, allowed bool) error {
	header := w.Header()
	header["Vary"] = varyOrigin
	if !allowed {
		return newStatusError(http.StatusForbidden, "access_denied", "no client lists this origin")
	}
	header["Access-Control-Allow-Origin"] = []string{origin}
	header["Access-Control-Allow-Methods"] = allowedMethod
	header["Access-Control-Allow-Headers"] = allowedHeaders
	header["Access-Control-Max-Age"] = preflightAge
	w.WriteHeader(http.StatusNoContent)
	return nil
}

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
	return answerPreflight(w, origin, known)
}

// allowPage lets a page read the answer, also an error, if the client is authenticated and
// lists the page's origin. If the store fails, the page may not read it.
func (s *Server) allowPage(w http.ResponseWriter, r *http.Request, client string, err error) {
	origins := r.Header["Origin"]
	if len(origins) != 1 || !authenticated(err) {
		return
	}
	if ok, err := s.cfg.Issuer.AllowsOrigin(r.Context(), client, origins[0]); err == nil && ok {
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
