package endpoint

import (
	"net/http"

	"keymill/issuer"
	"keymill/issuer/refusal"
)

// revoke serves POST /revoke (RFC 7009). It answers 200 for any token, so that a client
// cannot find out which tokens exist. token_type_hint is ignored: a token shows its type.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	w.Header()["Vary"] = varyOrigin
	client, token, err := readTokenForm(w, r)
	if err != nil {
		return err
	}
	from := s.address(r)
	err = s.withClientLimit(from, client, func() error { return s.cfg.Issuer.Revoke(r.Context(), client, token, from) })
	s.allowPage(w, r, client.ClientID, err)
	if err != nil {
		return &clientError{client.ClientID, err}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// introspect serves POST /introspect (RFC 7662).
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	client, token, err := readTokenForm(w, r)
	if err != nil {
		return err
	}
	var found issuer.Introspection
	err = s.withClientLimit(s.address(r), client, func() error {
		found, err = s.cfg.Issuer.Introspect(r.Context(), client, token)
		return err
	})
	if err != nil {
		return &clientError{client.ClientID, err}
	}
	w.Header()["Pragma"] = noCache
	return writeJSON(w, http.StatusOK, found)
}

// readTokenForm reads the client and the token of a request to /revoke or /introspect.
func readTokenForm(w http.ResponseWriter, r *http.Request) (issuer.Credentials, refusal.Secret, error) {
	var room [usualParameters]parameter
	ps, err := readForm(w, r, room[:0])
	if err != nil {
		return issuer.Credentials{}, "", err
	}
	client, err := readCredentials(r, ps)
	if err != nil {
		return issuer.Credentials{}, "", err
	}
	token := ps.get("token")
	if token == "" {
		return client, "", &clientError{client.ClientID, refusal.New("invalid_request", "parameter token is missing")}
	}
	return client, refusal.Secret(token), nil
}
