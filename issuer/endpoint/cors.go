package endpoint

import (
	"errors"
	"net/http"

	"keymill/issuer"
)

// Browsers ask whether a page of one origin may read an answer of another (Fetch
// standard, section 3.3). Public documents say yes to all. /token says yes to the
// origins that a client lists, and never lets cookies along. Nothing else says it.
var (
	anyOrigin      = []string{"*"}
	varyOrigin     = []string{"Origin"}
	allowedMethod  = []string{http.MethodPost}
	allowedHeaders = []string{"Authorization, Content-Type"}
	preflightAge   = []string{"600"}
)

// tokenPreflight answers for any client that lists the origin: a preflight cannot say
// which client will ask. The answer to the POST is held to that client.
func (s *Server) tokenPreflight(w http.ResponseWriter, r *http.Request) error {
	origins := r.Header["Origin"]
	if len(origins) != 1 || r.Header.Get("Access-Control-Request-Method") == "" {
		w.Header()["Allow"] = allowedMethod
		return errMethod
	}
	header := w.Header()
	header["Vary"] = varyOrigin
	known, err := s.cfg.Issuer.KnowsOrigin(r.Context(), origins[0])
	if err != nil {
		return err
	}
	if !known {
		return &statusError{http.StatusForbidden, 0, issuer.Refuse("access_denied", "no client lists this origin")}
	}
	header["Access-Control-Allow-Origin"] = origins
	header["Access-Control-Allow-Methods"] = allowedMethod
	header["Access-Control-Allow-Headers"] = allowedHeaders
	header["Access-Control-Max-Age"] = preflightAge
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// shareToken lets the page read the answer, also a refusal, if the client proved who
// it is and lists the page's origin. A store that cannot be asked means no.
func (s *Server) shareToken(w http.ResponseWriter, r *http.Request, client string, err error) {
	origins := r.Header["Origin"]
	if len(origins) != 1 || !authenticated(err) {
		return
	}
	if ok, err := s.cfg.Issuer.AllowsOrigin(r.Context(), client, origins[0]); err == nil && ok {
		w.Header()["Access-Control-Allow-Origin"] = origins
	}
}

// authenticated tells from the outcome whether the issuer knew the client by then.
func authenticated(err error) bool {
	if err == nil {
		return true
	}
	var refusal *issuer.Refusal
	if !errors.As(err, &refusal) {
		return false
	}
	switch refusal.Code {
	case "invalid_client", "invalid_request", "unsupported_grant_type", "temporarily_unavailable":
		return false
	}
	return true
}
