package endpoint

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"keymill/issuer"
)

// token serves POST /token (RFC 6749, section 3.2): read, decide, write.
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	w.Header()["Vary"] = varyOrigin
	req, err := readTokenRequest(w, r)
	if err != nil {
		return err
	}
	grant, err := s.decide(r, req)
	s.shareToken(w, r, req.Client.ClientID, err)
	if err != nil {
		return &clientError{req.Client.ClientID, err}
	}
	if s.cfg.Log.Enabled(r.Context(), slog.LevelDebug) {
		s.cfg.Log.LogAttrs(r.Context(), slog.LevelDebug, "token issued",
			slog.String("client", short(req.Client.ClientID)), slog.String("grant", req.GrantType),
			slog.String("scope", grant.Scope))
	}
	w.Header()["Pragma"] = noCache
	return writeJSON(w, http.StatusOK, grant)
}

// decide asks the issuer, unless too many failures came from there before.
func (s *Server) decide(r *http.Request, req issuer.TokenRequest) (issuer.Grant, error) {
	from := network(s.address(r))
	if wait := s.failures.wait(req.Client.ClientID, from, time.Now()); wait > 0 {
		return issuer.Grant{}, tooManyFailures(wait)
	}
	grant, err := s.cfg.Issuer.Token(r.Context(), req)
	var refusal *issuer.Refusal
	switch {
	case err == nil:
		s.failures.succeeded(req.Client.ClientID, from)
	case errors.As(err, &refusal) && refusal.Code == "invalid_client":
		s.failures.failed(req.Client.ClientID, from, time.Now())
	}
	return grant, err
}

// tooManyFailures borrows its code from RFC 6749, section 4.1.2.1: the registry has
// none for this, slow_down belongs to the device grant, and invalid_client would say
// that the secret was looked at. Clients know this one from the 503 as "later".
func tooManyFailures(wait time.Duration) error {
	return &statusError{http.StatusTooManyRequests, wait,
		issuer.Refuse("temporarily_unavailable", "too many failed attempts, try again later")}
}

func readTokenRequest(w http.ResponseWriter, r *http.Request) (issuer.TokenRequest, error) {
	ps, err := readForm(w, r)
	if err != nil {
		return issuer.TokenRequest{}, err
	}
	if ps.get("response_type") != "" {
		return issuer.TokenRequest{}, issuer.Refuse("unsupported_response_type", "a token is asked for with grant_type")
	}
	client, err := readCredentials(r, ps)
	if err != nil {
		return issuer.TokenRequest{}, err
	}
	audience, err := ps.audience()
	if err != nil {
		return issuer.TokenRequest{}, &clientError{client.ClientID, err}
	}
	return issuer.TokenRequest{
		GrantType: ps.get("grant_type"), Client: client, Scope: ps.get("scope"), Audience: audience,
	}, nil
}
