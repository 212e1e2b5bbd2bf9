package endpoint

import (
	"errors"
	"net/http"

	"keymill/issuer/refusal"
)

// Browsers ask whether a page of one origin may read an answer of another (Fetch
// standard, section 3.3). Public documents say yes to all. /token, /revoke and the doors
// say yes to the origins that a client lists; only the cookie door lets cookies along.
// Nothing else says it.
var (
	anyOrigin      = []string{"*"}
	varyOrigin     = []string{"Origin"}
	allowedMethod  = []string{http.MethodPost}
	preflightAge   = []string{"600"}
	withCookies    = []string{"true"}
	readableByPage = []string{"Retry-After"}

	// The last two are what front ends of Django send without being asked.
	allowedHeaders = []string{"Authorization, Content-Type, X-CSRFToken, X-Requested-With"}
)

// askedOrigin returns the origin that a preflight asks for. OPTIONS is good for nothing else.
func askedOrigin(w http.ResponseWriter, r *http.Request) (string, error) {
	origins := r.Header["Origin"]
	if len(origins) != 1 || r.Header.Get("Access-Control-Request-Method") == "" {
		w.Header()["Allow"] = allowedMethod
		return "", errMethod
	}
	return origins[0], nil
}

// permit answers a preflight.
func permit(w http.ResponseWriter, origin string, allowed bool) error {
	header := w.Header()
	header["Vary"] = varyOrigin
	if !allowed {
		return &statusError{http.StatusForbidden, 0, refusal.New("access_denied", "no client here lists this origin")}
	}
	header["Access-Control-Allow-Origin"] = []string{origin}
	header["Access-Control-Allow-Methods"] = allowedMethod
	header["Access-Control-Allow-Headers"] = allowedHeaders
	header["Access-Control-Max-Age"] = preflightAge
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// preflight answers for any client that lists the origin: a preflight cannot say
// which client will ask. The answer to the POST is held to that client.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) error {
	origin, err := askedOrigin(w, r)
	if err != nil {
		return err
	}
	known, err := s.cfg.Issuer.KnowsOrigin(r.Context(), origin)
	if err != nil {
		return err
	}
	return permit(w, origin, known)
}

// shareToken lets the page read the answer, also a refusal, if the client proved who
// it is and lists the page's origin.
func (s *Server) shareToken(w http.ResponseWriter, r *http.Request, client string, err error) {
	if authenticated(err) {
		s.share(w, r, client)
	}
}

// share lets the page read the answer if the client lists its origin. A store that
// cannot be asked means no.
func (s *Server) share(w http.ResponseWriter, r *http.Request, client string) {
	origins := r.Header["Origin"]
	if len(origins) != 1 {
		return
	}
	if ok, err := s.cfg.Issuer.AllowsOrigin(r.Context(), client, origins[0]); err == nil && ok {
		w.Header()["Access-Control-Allow-Origin"] = origins
		w.Header()["Access-Control-Expose-Headers"] = readableByPage
	}
}

// authenticated tells from the outcome whether the issuer knew the client by then. A
// forged refresh token is refused before that, which a page of the client may read too:
// whoever could send it can tell that it was no good.
func authenticated(err error) bool {
	if err == nil {
		return true
	}
	var refused *refusal.Refusal
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case "invalid_client", "invalid_request", "unsupported_grant_type", "temporarily_unavailable":
		return false
	}
	return true
}
