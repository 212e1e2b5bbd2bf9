package endpoint

import (
	"net/http"

	"keymill/issuer/api"
)

func (s *Server) listAudiences(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := readPage(r)
	if err != nil {
		return err
	}
	list, err := s.cfg.Issuer.Audiences(r.Context(), after, limit)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) addAudience(w http.ResponseWriter, r *http.Request) error {
	var a api.Audience
	err := readMembers(w, r, members{
		"audience": &a.Name, "alg": &a.Alg, "ttl": &a.TTL, "scopes": &a.Scopes, "profile": &a.Profile,
	})
	if err != nil {
		return err
	}
	if a, err = s.cfg.Issuer.AddAudience(r.Context(), a, actor(r)); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, a)
}

func (s *Server) showAudience(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(r, "name")
	if err != nil {
		return err
	}
	a, err := s.cfg.Issuer.Audience(r.Context(), name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, a)
}

func (s *Server) setAudience(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(r, "name")
	if err != nil {
		return err
	}
	var c api.AudienceChange
	if err := readMembers(w, r, members{"ttl": &c.TTL, "scopes": &c.Scopes, "profile": &c.Profile}); err != nil {
		return err
	}
	a, err := s.cfg.Issuer.SetAudience(r.Context(), name, c, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, a)
}

func (s *Server) removeAudience(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(r, "name")
	if err != nil {
		return err
	}
	if err := s.cfg.Issuer.RemoveAudience(r.Context(), name, actor(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
