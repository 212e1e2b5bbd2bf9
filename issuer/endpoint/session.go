package endpoint

import (
	"context"
	"log/slog"
	"mime"
	"net/http"
	"slices"

	"keymill/issuer"
	"keymill/issuer/refusal"
)

// openSession adds the door for single page apps. The page gets access tokens in answers,
// and never sees a refresh token: the browser keeps that in a cookie.
func (s *Server) openSession(e *edge) error {
	if s.cfg.Session.Client == "" {
		return nil
	}
	var err error
	if s.cookie, err = CookieName(s.cfg.Session.Client, s.cfg.Issuer.URL()); err != nil {
		return err
	}
	for path, h := range map[string]handle{
		"/session/login": s.sessionLogin, "/session/refresh": s.sessionRefresh, "/session/logout": s.sessionLogout,
	} {
		e.door(path, sessionShape, s.fenced(h), s.sessionPreflight)
	}
	return nil
}

// sessionShape: 401 whenever the page should show its login. The challenge is of no
// scheme that a browser knows, or it would ask for a password itself.
var sessionShape = &shape{challenge: []string{`Session realm="keymill"`}, apply: shapeSession}

func shapeSession(_ *http.Request, a reply, err error) reply {
	switch {
	case refusedAs(err, "invalid_credentials"):
		a.status, a.body = http.StatusUnauthorized, errorBody{"invalid_grant", "the user name or the password is wrong"}
	case refusedAs(err, "invalid_grant"):
		a.status = http.StatusUnauthorized
	}
	return a
}

// fenced lets no page in but the issuer's own and those of the client's origins, before
// anything else is looked at, and lets the latter read what h says.
func (s *Server) fenced(h handle) handle {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header()["Vary"] = varyOrigin
		listed, err := s.origins(r.Context(), s.cfg.Session.Client)
		if err != nil {
			return err
		}
		if err := s.fence.check(r, s.cfg.Issuer.URL(), listed); err != nil {
			return err
		}
		if origin := r.Header["Origin"]; len(origin) == 1 && slices.Contains(listed, origin[0]) {
			header := w.Header()
			header["Access-Control-Allow-Origin"] = origin
			header["Access-Control-Allow-Credentials"] = withCookies
			header["Access-Control-Expose-Headers"] = readableByPage
		}
		return h(w, r)
	}
}

// origins returns those of a door's client as they are now; an absent or disabled client
// has none.
func (s *Server) origins(ctx context.Context, id string) ([]string, error) {
	client, err := s.cfg.Issuer.Client(ctx, id)
	if refusedAs(err, "not_found") || client.Disabled {
		return nil, nil
	}
	return client.Origins, err
}

func (s *Server) sessionPreflight(w http.ResponseWriter, r *http.Request) error {
	origin, err := askedOrigin(w, r)
	if err != nil {
		return err
	}
	listed, err := s.origins(r.Context(), s.cfg.Session.Client)
	if err != nil {
		return err
	}
	allowed := slices.Contains(listed, origin)
	if allowed {
		w.Header()["Access-Control-Allow-Credentials"] = withCookies
	}
	return permit(w, origin, allowed)
}

func (s *Server) sessionLogin(w http.ResponseWriter, r *http.Request) error {
	req := issuer.LoginRequest{Client: s.cfg.Session.Client, Endpoint: issuer.LoginBrowser}
	err := readSessionBody(w, r, members{
		"username": &req.Name, "password": &req.Password, "audience": &req.Audience, "scope": &req.Scope,
	})
	if err != nil {
		return err
	}
	if req.Name == "" || req.Password == "" {
		return refusal.New("invalid_request", "username and password must be given")
	}
	grant, err := s.login(r, req)
	if err != nil {
		return err
	}
	// Whoever sat here before is logged out. That this fails is no reason to lose the new
	// session: the old one is out of reach of the page and ends when it has idled.
	if err := s.endSessions(r); err != nil {
		s.cfg.Log.LogAttrs(r.Context(), slog.LevelWarn, "an old session was left behind", slog.String("err", err.Error()))
	}
	return s.answerSession(w, grant)
}

func (s *Server) sessionRefresh(w http.ResponseWriter, r *http.Request) error {
	req := issuer.RefreshRequest{Client: s.cfg.Session.Client, From: s.address(r)}
	if err := readSessionBody(w, r, members{"audience": &req.Audience, "scope": &req.Scope}); err != nil {
		return err
	}
	grant, err := s.refreshSession(r, req)
	if err != nil {
		if refusedAs(err, "invalid_grant") {
			s.clearCookie(w)
		}
		return s.atDoor(r.Context(), req.Client, err)
	}
	return s.answerSession(w, grant)
}

// refreshSession takes no side between two cookies: one of them was planted.
func (s *Server) refreshSession(r *http.Request, req issuer.RefreshRequest) (issuer.Grant, error) {
	switch tokens := s.cookies(r); len(tokens) {
	case 0:
		return issuer.Grant{}, refusal.New("invalid_grant", "there is no session: log in")
	case 1:
		req.Token = tokens[0]
		return s.cfg.Issuer.Refresh(r.Context(), req)
	}
	return issuer.Grant{}, refusal.New("invalid_grant", "there is more than one session cookie: log in again")
}

// sessionLogout clears the cookie only when the session has ended: until then the page
// can try again.
func (s *Server) sessionLogout(w http.ResponseWriter, r *http.Request) error {
	if err := readSessionBody(w, r, members{}); err != nil {
		return err
	}
	if err := s.endSessions(r); err != nil {
		return s.atDoor(r.Context(), s.cfg.Session.Client, err)
	}
	s.clearCookie(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// endSessions ends what the request's cookies stand for. Garbage costs nothing, and what
// is no session of this client's has none to end.
func (s *Server) endSessions(r *http.Request) error {
	for _, token := range s.cookies(r) {
		err := s.cfg.Issuer.Logout(r.Context(), issuer.RefreshRequest{
			Client: s.cfg.Session.Client, Token: token, From: s.address(r),
		})
		if err != nil && !refusedAs(err, "invalid_grant") {
			return err
		}
	}
	return nil
}

// answerSession sends the access token in the body and the refresh token in the cookie.
func (s *Server) answerSession(w http.ResponseWriter, grant issuer.Grant) error {
	s.setCookie(w, grant.Refresh, grant.RefreshFor)
	grant.Refresh = ""
	w.Header()["Pragma"] = noCache
	return writeJSON(w, http.StatusOK, grant)
}

// readSessionBody reads JSON and nothing else: a form could be sent by a page of any
// origin without asking first. Nothing at all is an empty object.
func readSessionBody(w http.ResponseWriter, r *http.Request, into members) error {
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return err
	}
	body, err := readBody(w, r, maxFormBytes)
	if err != nil {
		return err
	}
	types := r.Header["Content-Type"]
	if len(body) == 0 && len(types) == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || len(types) > 1 || media != "application/json" || r.Header.Get("Content-Encoding") != "" {
		return &statusError{http.StatusUnsupportedMediaType, 0, refusal.New("invalid_request", "the body must be application/json")}
	}
	if len(body) == 0 {
		return nil
	}
	return decodeStrict(body, into)
}
