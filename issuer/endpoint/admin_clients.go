package endpoint

import (
	"net/http"

	"keymill/issuer/api"
)

func (s *Server) listClients(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := readPage(r)
	if err != nil {
		return err
	}
	list, err := s.cfg.Issuer.Clients(r.Context(), after, limit)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

// addClient answers with the secret; it is not shown again.
func (s *Server) addClient(w http.ResponseWriter, r *http.Request) error {
	var c api.NewClient
	err := readMembers(w, r, members{
		"client_id": &c.ID, "public": &c.Public, "grants": &c.Grants,
		"audiences": &c.Audiences, "scopes": &c.Scopes, "origins": &c.Origins,
		"introspect": &c.Introspect, "grace": &c.Grace, "idle": &c.Idle, "absolute": &c.Absolute,
	})
	if err != nil {
		return err
	}
	client, err := s.cfg.Issuer.AddClient(r.Context(), c, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, client)
}

func (s *Server) showClient(w http.ResponseWriter, r *http.Request) error {
	id, err := readName(r, "id")
	if err != nil {
		return err
	}
	c, err := s.cfg.Issuer.Client(r.Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (s *Server) setClient(w http.ResponseWriter, r *http.Request) error {
	id, err := readName(r, "id")
	if err != nil {
		return err
	}
	var c api.ClientChange
	err = readMembers(w, r, members{
		"grants": &c.Grants, "audiences": &c.Audiences, "scopes": &c.Scopes,
		"origins": &c.Origins, "disabled": &c.Disabled, "introspect": &c.Introspect,
		"grace": &c.Grace, "idle": &c.Idle, "absolute": &c.Absolute,
	})
	if err != nil {
		return err
	}
	changed, err := s.cfg.Issuer.SetClient(r.Context(), id, c, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, changed)
}

// rotateSecret answers with the new secret; it is not shown again.
func (s *Server) rotateSecret(w http.ResponseWriter, r *http.Request) error {
	id, err := readName(r, "id")
	if err != nil {
		return err
	}
	var oldFor string
	if err := readMembers(w, r, members{"old_for": &oldFor}); err != nil {
		return err
	}
	keep, err := parseWait("old_for", oldFor)
	if err != nil {
		return err
	}
	c, err := s.cfg.Issuer.RotateSecret(r.Context(), id, keep, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (s *Server) removeClient(w http.ResponseWriter, r *http.Request) error {
	id, err := readName(r, "id")
	if err != nil {
		return err
	}
	if err := s.cfg.Issuer.RemoveClient(r.Context(), id, actor(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
