package endpoint

import (
	"net/http"
	"time"

	"keymill/issuer/refusal"
	"keymill/keystore"
)

// keyView is a key as administrators see it.
type keyView struct {
	KID     string         `json:"kid"`
	Alg     string         `json:"alg"`
	Stage   keystore.Stage `json:"stage"`
	Publish *time.Time     `json:"publish"`
	Sign    *time.Time     `json:"sign"`
	Stop    *time.Time     `json:"stop"`
	Drop    *time.Time     `json:"drop"`
}

func viewKey(k keystore.KeyInfo) keyView {
	return keyView{k.KID, k.Alg, k.Stage, instant(k.Publish), instant(k.Sign), instant(k.Stop), instant(k.Drop)}
}

func (s *Server) listKeys(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.Keys.List(r.Context())
	if err != nil {
		return err
	}
	views := make([]keyView, len(list))
	for n, k := range list {
		views[n] = viewKey(k)
	}
	return writeJSON(w, http.StatusOK, views)
}

func (s *Server) rotateKey(w http.ResponseWriter, r *http.Request) error {
	var alg string
	var force bool
	if err := readMembers(w, r, members{"alg": &alg, "force": &force}); err != nil {
		return err
	}
	if alg == "" {
		return refusal.New("invalid_request", "member 'alg' is missing")
	}
	done, err := s.cfg.Keys.Rotate(r.Context(), alg, force, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Alg          string     `json:"alg"`
		KID          string     `json:"kid"`
		Previous     string     `json:"previous"`
		Sign         *time.Time `json:"sign"`
		Spare        string     `json:"spare"`
		UnknownUntil *time.Time `json:"unknown_until"`
	}{done.Alg, done.KID, done.Previous, instant(done.Sign), done.Spare, instant(done.UnknownUntil)})
}

func (s *Server) revokeKey(w http.ResponseWriter, r *http.Request) error {
	var kid string
	if err := readMembers(w, r, members{"kid": &kid}); err != nil {
		return err
	}
	if kid == "" {
		return refusal.New("invalid_request", "member 'kid' is missing")
	}
	done, err := s.cfg.Keys.Revoke(r.Context(), kid, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		KID          string         `json:"kid"`
		Alg          string         `json:"alg"`
		Was          keystore.Stage `json:"was"`
		CachedUntil  *time.Time     `json:"cached_until"`
		Successor    string         `json:"successor"`
		UnknownUntil *time.Time     `json:"unknown_until"`
	}{done.KID, done.Alg, done.Was, instant(done.CachedUntil), done.Successor, instant(done.UnknownUntil)})
}

func (s *Server) importKey(w http.ResponseWriter, r *http.Request) error {
	var key string
	var until *time.Time
	req := keystore.ImportRequest{}
	err := readMembers(w, r, members{
		"key": &key, "alg": &req.Alg, "kid": &req.KID, "until": &until, "sign_now": &req.SignNow,
	})
	if err != nil {
		return err
	}
	if key == "" {
		return refusal.New("invalid_request", "member 'key' is missing")
	}
	if until != nil {
		req.Until = *until
	}
	req.Key = []byte(key)
	defer clear(req.Key) // best effort: the body and the string stay until collected
	info, err := s.cfg.Keys.Import(r.Context(), req, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, viewKey(info))
}
