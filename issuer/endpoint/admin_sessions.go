package endpoint

import (
	"net/http"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func (s *Server) listSessions(w http.ResponseWriter, r *http.Request) error {
	user, err := readName(r, "user")
	if err != nil {
		return err
	}
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	list, err := s.cfg.Issuer.Sessions(r.Context(), user, query.Get("client"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, append([]api.Session{}, list...)) // never null
}

func (s *Server) revokeSession(w http.ResponseWriter, r *http.Request) error {
	id, err := readName(r, "id")
	if err != nil {
		return err
	}
	session, err := s.cfg.Issuer.RevokeSession(r.Context(), id, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, session)
}

// revokeSessions ends every session of one client, or of the store. Neither is the
// default: an empty body must not log everybody out.
func (s *Server) revokeSessions(w http.ResponseWriter, r *http.Request) error {
	var client string
	var all bool
	err := readMembers(w, r, members{"client": &client, "all": &all})
	if err != nil {
		return err
	}
	switch {
	case all == (client != ""):
		return refusal.New("invalid_request", "the body must hold either 'client' or 'all': true")
	case all:
		err = s.cfg.Issuer.RevokeAllSessions(r.Context(), actor(r))
	default:
		err = s.cfg.Issuer.RevokeClientSessions(r.Context(), client, actor(r))
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// explainToken is a POST although it changes nothing: a token in a query ends up in logs.
func (s *Server) explainToken(w http.ResponseWriter, r *http.Request) error {
	var token refusal.Secret
	if err := readMembers(w, r, members{"token": &token}); err != nil {
		return err
	}
	if token == "" {
		return refusal.New("invalid_request", "member 'token' is missing")
	}
	why, err := s.cfg.Issuer.Explain(r.Context(), token)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, why)
}
