package endpoint

import (
	"log/slog"
	"mime"
	"net/http"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// browserRoutes adds the login endpoint for single page apps. A page gets access tokens in
// answers, and never a refresh token: the browser keeps that in a cookie.
func (s *Server) browserRoutes(rt *router) error {
	s.browser = loginEndpoint{
		name: issuer.LoginBrowser, client: s.cfg.Browser.Client, cookies: true,
		// The challenge has a scheme that no browser knows: for Basic it would ask for a password itself.
		format: &errorFormat{challenge: []string{`Session realm="keymill"`}, apply: formatBrowser},
	}
	if s.browser.client == "" {
		return nil
	}
	var err error
	if s.cookie, err = CookieName(s.browser.client, s.cfg.Issuer.URL()); err != nil {
		return err
	}
	s.loginRoutes(rt, &s.browser, map[string]handler{
		"/session/login": s.browserLogin, "/session/refresh": s.browserRefresh, "/session/logout": s.browserLogout,
	})
	return nil
}

// formatBrowser answers 401 whenever the page should show its login form.
func formatBrowser(_ *http.Request, a reply, err error) reply {
	switch {
	case refusedAs(err, "invalid_credentials"):
		a.status, a.body = http.StatusUnauthorized, api.ErrorResponse{Code: "invalid_grant", Description: "the user name or the password is wrong"}
	case refusedAs(err, "invalid_grant"):
		a.status = http.StatusUnauthorized
	}
	return a
}

func (s *Server) browserLogin(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Username string         `json:"username"`
		Password refusal.Secret `json:"password"`
		Audience string         `json:"audience"`
		Scope    string         `json:"scope"`
	}
	if err := readBrowserBody(w, r, &body); err != nil {
		return err
	}
	body.Username = trimSpace(body.Username)
	if body.Username == "" || body.Password == "" {
		return refusal.New("invalid_request", "members 'username' and 'password' are required")
	}
	grant, err := s.login(r, &s.browser, issuer.LoginRequest{
		Name: body.Username, Password: body.Password, Audience: body.Audience, Scope: body.Scope,
	})
	if err != nil {
		return err
	}
	// The new login replaces the session of the old cookie. If that session cannot be ended,
	// the page still gets the new one: no page can reach the old one, and it expires when idle.
	if err := s.endSessions(r); err != nil {
		s.lines.Write(r.Context(), limit.Line{
			Level: slog.LevelWarn, Message: "the session before this login was not ended", Attrs: []slog.Attr{slog.String("err", err.Error())},
			Reason: "session_not_ended", User: grant.User, From: s.address(r),
		})
	}
	s.answerBrowser(w, grant)
	return nil
}

// browserRefresh leaves the cookie as it is when it refuses. By the time the answer arrives,
// another tab may have logged in, and the browser would delete the cookie of that login.
func (s *Server) browserRefresh(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Audience string `json:"audience"`
		Scope    string `json:"scope"`
	}
	if err := readBrowserBody(w, r, &body); err != nil {
		return err
	}
	grant, err := s.refreshCookie(r, issuer.RefreshRequest{
		Client: s.browser.client, From: s.address(r), Audience: body.Audience, Scope: body.Scope,
	})
	if err != nil {
		return s.loginError(r.Context(), &s.browser, err)
	}
	s.answerBrowser(w, grant)
	return nil
}

// refreshCookie refuses two different cookies: an attacker has set one of them, and it is
// unknown which.
func (s *Server) refreshCookie(r *http.Request, req issuer.RefreshRequest) (issuer.Grant, error) {
	switch tokens := s.cookies(r); len(tokens) {
	case 0:
		return issuer.Grant{}, refusal.New("invalid_grant", "no session cookie was sent: log in")
	case 1:
		req.Token = tokens[0]
		grant, err := s.cfg.Issuer.Refresh(r.Context(), req)
		s.refreshed(grant, err)
		return grant, err
	}
	return issuer.Grant{}, refusal.New("invalid_grant", "different session cookies were sent: log in again")
}

// browserLogout is the only handler that clears the cookie. It does so only when the session
// has ended, so that the page can try again until then.
func (s *Server) browserLogout(w http.ResponseWriter, r *http.Request) error {
	if err := readBrowserBody(w, r, &struct{}{}); err != nil {
		return err
	}
	if err := s.endSessions(r); err != nil {
		return s.loginError(r.Context(), &s.browser, err)
	}
	s.clearCookie(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// endSessions ends the sessions of the request's cookies. A cookie that is not a token of
// this client has no session to end.
func (s *Server) endSessions(r *http.Request) error {
	for _, token := range s.cookies(r) {
		err := s.cfg.Issuer.Logout(r.Context(), issuer.RefreshRequest{
			Client: s.browser.client, Token: token, From: s.address(r),
		})
		if err != nil && !refusedAs(err, "invalid_grant") {
			return err
		}
	}
	return nil
}

// answerBrowser sends the access token in the body and the refresh token in the cookie.
func (s *Server) answerBrowser(w http.ResponseWriter, grant issuer.Grant) {
	s.setCookie(w, grant.Refresh, grant.RefreshFor)
	grant.Refresh = ""
	writeGrant(w, grant)
}

// readBrowserBody accepts only JSON: a page of any origin can send a form without a
// preflight request. A request without content is an empty object, and what its headers say
// about content does not matter: libraries send Content-Type without a body.
func readBrowserBody(w http.ResponseWriter, r *http.Request, v any) error {
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return err
	}
	body, err := readBody(w, r, maxFormBytes)
	if err != nil || len(body) == 0 {
		return err
	}
	types := r.Header["Content-Type"]
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || len(types) > 1 || media != "application/json" || isCoded(r.Header) {
		return errMediaType("the body must be application/json")
	}
	return api.Decode(body, v)
}

func errMediaType(description string) error {
	return newStatusError(http.StatusUnsupportedMediaType, "invalid_request", description)
}
