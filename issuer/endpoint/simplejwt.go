package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"keymill/issuer"
	"keymill/issuer/origin"
	"keymill/issuer/refusal"
)

// simpleJWTRoutes adds the login endpoint with the API of djangorestframework-simplejwt 5.2,
// with ROTATE_REFRESH_TOKENS and BLACKLIST_AFTER_ROTATION on. Its client is public and set in
// the configuration, so requests carry no client authentication. A path without its last
// slash is not found: a redirect would lose the body or send the password again.
func (s *Server) simpleJWTRoutes(rt *router) error {
	s.simplejwt = loginEndpoint{
		name: issuer.LoginSimpleJWT, client: s.cfg.SimpleJWT.Client,
		format: &errorFormat{challenge: []string{`Bearer realm="api"`}, apply: formatSimpleJWT},
	}
	if s.simplejwt.client == "" {
		return nil
	}
	prefix := cmp.Or(s.cfg.SimpleJWT.Prefix, "/api")
	if err := CheckPrefix(prefix); err != nil {
		return fmt.Errorf("simplejwt.prefix %q %w", prefix, err)
	}
	s.cfg.SimpleJWT.UsernameField = cmp.Or(s.cfg.SimpleJWT.UsernameField, "username")
	if err := CheckUsernameField(s.cfg.SimpleJWT.UsernameField); err != nil {
		return fmt.Errorf("simplejwt.username_field %q %w", s.cfg.SimpleJWT.UsernameField, err)
	}
	s.loginRoutes(rt, &s.simplejwt, map[string]handler{
		prefix + "/token/":           s.obtainPair,
		prefix + "/token/refresh/":   s.refreshPair,
		prefix + "/token/verify/":    s.verifyToken,
		prefix + "/token/blacklist/": s.blacklistToken,
	})
	return nil
}

// CheckPrefix returns nil if prefix can stand before the simplejwt paths: it is a path, see
// origin.CheckPath, and does not begin with a path of this server. The text of the error follows the prefix
// in a message.
func CheckPrefix(prefix string) error {
	if err := origin.CheckPath(prefix); err != nil {
		return err
	}
	switch first, _, _ := strings.Cut(prefix[1:], "/"); first {
	case "admin", "healthz", "introspect", "readyz", "revoke", "session", "token":
		return fmt.Errorf("conflicts with the server's own path /%s", first)
	}
	return nil
}

// CheckUsernameField returns nil if name can be the field with the user name: it is written
// as a field of a Django model, in ASCII, and it is not the field with the password. The
// text of the error follows the name in a message.
func CheckUsernameField(name string) error {
	switch {
	case name == "password":
		return errors.New("is the field with the password")
	case name == "" || name[0] >= '0' && name[0] <= '9':
		return errors.New("does not begin with a letter or '_'")
	case strings.ContainsAny(name, "-./") || origin.CheckPath("/"+name) != nil:
		return errors.New("has other characters than letters, digits and '_'")
	}
	return nil
}

func (s *Server) obtainPair(w http.ResponseWriter, r *http.Request) error {
	fields, err := readFields(w, r, s.cfg.SimpleJWT.UsernameField, "password")
	if err != nil {
		return err
	}
	// simplejwt removes the white space around a password. Django's forms and the browser
	// endpoint keep it, so it can belong to the password, and both forms are tried.
	grant, err := s.login(r, &s.simplejwt, issuer.LoginRequest{
		Name: fields[0].text, Password: refusal.Secret(fields[1].typed), Trimmed: refusal.Secret(fields[1].text),
	})
	if refusedAs(err, "invalid_target") || refusedAs(err, "invalid_scope") {
		// The request cannot name an audience or a scope, so the client cannot be used here.
		return s.unusable(r.Context(), &s.simplejwt, err)
	} else if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Refresh refusal.Secret `json:"refresh"`
		Access  string         `json:"access"`
	}{grant.Refresh, grant.AccessToken})
}

func (s *Server) refreshPair(w http.ResponseWriter, r *http.Request) error {
	req, err := s.readRefresh(w, r)
	if err != nil {
		return err
	}
	grant, err := s.cfg.Issuer.Refresh(r.Context(), req)
	s.refreshed(grant, err)
	if err != nil {
		return s.tokenError(r.Context(), req.Token, err)
	}
	return writeJSON(w, http.StatusOK, struct {
		Access  string         `json:"access"`
		Refresh refusal.Secret `json:"refresh"`
	}{grant.AccessToken, grant.Refresh})
}

// blacklistToken ends the session of any of its refresh tokens. It answers as simplejwt
// does: 200 for a valid token, and an error for one that was expired, used or revoked
// before. The error is determined before Logout, which revokes a valid token. If that needed a record
// which is damaged and Logout did not, the session has ended.
func (s *Server) blacklistToken(w http.ResponseWriter, r *http.Request) error {
	req, err := s.readRefresh(w, r)
	if err != nil {
		return err
	}
	before := s.cfg.Issuer.VerifyToken(r.Context(), req.Client, req.Token)
	if before != nil {
		before = s.tokenError(r.Context(), req.Token, before)
	}
	err = s.cfg.Issuer.Logout(r.Context(), req)
	switch {
	case err != nil && !refusedAs(err, "invalid_grant"):
		return s.loginError(r.Context(), &s.simplejwt, err)
	case before != nil && (err != nil || refusal.CodeOf(before) != ""):
		return before
	case err != nil: // a valid access token, which ends no session
		return s.tokenError(r.Context(), req.Token, err)
	}
	return writeJSON(w, http.StatusOK, struct{}{})
}

// verifyToken answers for a token that was used or revoked with a field error, as simplejwt does.
func (s *Server) verifyToken(w http.ResponseWriter, r *http.Request) error {
	fields, err := readFields(w, r, "token")
	if err != nil {
		return err
	}
	token := refusal.Secret(fields[0].text)
	if err := s.cfg.Issuer.VerifyToken(r.Context(), s.simplejwt.client, token); err != nil {
		err = s.tokenError(r.Context(), token, err)
		if refusedAs(err, "token_blacklisted") {
			return fmt.Errorf("%w (%w)", fieldErrors{{noField, "Token is blacklisted"}}, err)
		}
		return err
	}
	return writeJSON(w, http.StatusOK, struct{}{})
}

func (s *Server) readRefresh(w http.ResponseWriter, r *http.Request) (issuer.RefreshRequest, error) {
	fields, err := readFields(w, r, "refresh")
	if err != nil {
		return issuer.RefreshRequest{}, err
	}
	return issuer.RefreshRequest{Client: s.simplejwt.client, Token: refusal.Secret(fields[0].text), From: s.address(r)}, nil
}

// tokenError finds the answer of simplejwt that an invalid_grant stands for. simplejwt
// distinguishes tokens that were used or revoked, and valid access tokens, from all others.
// Here only tokens of the endpoint's client are distinguished.
func (s *Server) tokenError(ctx context.Context, token refusal.Secret, err error) error {
	client := s.simplejwt.client
	if !refusedAs(err, "invalid_grant") {
		return s.loginError(ctx, &s.simplejwt, err)
	}
	if strings.Contains(string(token), ".") { // a JWT
		if s.cfg.Issuer.VerifyToken(ctx, client, token) == nil {
			err = refusal.New("token_wrong_type", "an access token cannot be refreshed")
		}
		return &clientError{client, err}
	}
	why, fault := s.cfg.Issuer.Explain(ctx, token)
	usedOrRevoked := []string{"late_retry", "replay", "rolled_back", "revoked"}
	if fault == nil && why.Session != nil && why.Session.Client == client && slices.Contains(usedOrRevoked, why.State) {
		refused := refusal.New("token_blacklisted", "the token was used or revoked before")
		refused.Cause = err
		err = refused
	}
	return &clientError{client, err}
}
