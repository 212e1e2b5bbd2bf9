package endpoint

import (
	"log/slog"
	"net/http"

	"keymill/issuer"
	"keymill/issuer/refusal"
)

// token serves POST /token (RFC 6749, section 3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	w.Header()["Vary"] = varyOrigin
	req, err := readTokenRequest(w, r)
	if err != nil {
		return err
	}
	req.From = s.address(r)
	grant, err := s.decide(r, req)
	s.allowPage(w, r, req.Client.ClientID, err)
	if err != nil {
		return &clientError{req.Client.ClientID, err}
	}
	if s.cfg.Log.Enabled(r.Context(), slog.LevelDebug) {
		s.cfg.Log.LogAttrs(r.Context(), slog.LevelDebug, "token issued",
			slog.String("client", short(req.Client.ClientID)), slog.String("grant", req.GrantType),
			slog.String("scope", grant.Scope))
	}
	writeGrant(w, grant)
	return nil
}

// writeGrant writes the answer to a request that got a token.
func writeGrant(w http.ResponseWriter, grant issuer.Grant) {
	w.Header()["Pragma"] = noCache
	writeBody(w, jsonType, http.StatusOK, grant.JSON())
}

// decide asks the issuer, unless the client failed too often from this address.
func (s *Server) decide(r *http.Request, req issuer.TokenRequest) (grant issuer.Grant, err error) {
	err = s.withClientLimit(req.From, req.Client, func() error {
		grant, err = s.cfg.Issuer.Token(r.Context(), req)
		if req.GrantType == refreshGrant {
			s.refreshed(grant, err)
		} else {
			s.issued(req.GrantType, grant, err)
		}
		return err
	})
	return grant, err
}

func readTokenRequest(w http.ResponseWriter, r *http.Request) (issuer.TokenRequest, error) {
	var room [usualParameters]parameter
	ps, err := readForm(w, r, room[:0])
	if err != nil {
		return issuer.TokenRequest{}, err
	}
	if ps.get("response_type") != "" {
		return issuer.TokenRequest{}, refusal.New("unsupported_response_type", "send grant_type; response_type is for authorization endpoints")
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
		Refresh: refusal.Secret(ps.get("refresh_token")),
	}, nil
}
