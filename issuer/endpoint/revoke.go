package endpoint

import (
	"net/http"

	"keymill/issuer"
	"keymill/issuer/refusal"
)

// revoke serves POST /revoke (RFC 7009): 200 for any token, so that nobody learns which
// ones exist. token_type_hint is not read: what a token is can be seen from itself.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	w.Header()["Vary"] = varyOrigin
	client, token, err := readTokenQuestion(w, r)
	if err != nil {
		return err
	}
	err = s.limited(r, client, func() error { return s.cfg.Issuer.Revoke(r.Context(), client, token, s.address(r)) })
	s.shareToken(w, r, client.ClientID, err)
	if err != nil {
		return &clientError{client.ClientID, err}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// introspect serves POST /introspect (RFC 7662).
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	client, token, err := readTokenQuestion(w, r)
	if err != nil {
		return err
	}
	var found issuer.Introspection
	err = s.limited(r, client, func() error {
		found, err = s.cfg.Issuer.Introspect(r.Context(), client, token)
		return err
	})
	if err != nil {
		return &clientError{client.ClientID, err}
	}
	w.Header()["Pragma"] = noCache
	return writeJSON(w, http.StatusOK, found)
}

// readTokenQuestion reads what /revoke and /introspect are sent: a client and a token.
func readTokenQuestion(w http.ResponseWriter, r *http.Request) (issuer.Credentials, refusal.Secret, error) {
	ps, err := readForm(w, r)
	if err != nil {
		return issuer.Credentials{}, "", err
	}
	client, err := readCredentials(r, ps)
	if err != nil {
		return issuer.Credentials{}, "", err
	}
	token := ps.get("token")
	if token == "" {
		return client, "", &clientError{client.ClientID, refusal.New("invalid_request", "token is missing")}
	}
	return client, refusal.Secret(token), nil
}
