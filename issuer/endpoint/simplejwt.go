package endpoint

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"keymill/issuer"
	"keymill/issuer/refusal"
)

// openSimpleJWT adds the door that speaks as djangorestframework-simplejwt 5.2 does, with
// ROTATE_REFRESH_TOKENS and BLACKLIST_AFTER_ROTATION on. Its client is public and fixed,
// so nobody authenticates but the person. A path without its last slash is not found: a
// redirect would lose the body or repeat the password.
func (s *Server) openSimpleJWT(e *edge) error {
	if s.cfg.SimpleJWT.Client == "" {
		return nil
	}
	prefix := cmp.Or(s.cfg.SimpleJWT.Prefix, "/api")
	if !validPrefix.MatchString(prefix) {
		return fmt.Errorf("simplejwt.prefix %q must be a path such as /api, without a slash at its end", prefix)
	}
	for path, h := range map[string]handle{
		"/token/": s.obtainPair, "/token/refresh/": s.refreshPair, "/token/verify/": s.verifyToken, "/token/blacklist/": s.blacklist,
	} {
		e.door(prefix+path, simplejwtShape, s.sharedDoor(h), s.doorPreflight)
	}
	return nil
}

// validPrefix: nothing that the router or a URL would read as something else.
var validPrefix = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// sharedDoor lets in no page but the issuer's own and those of the client's origins, and
// lets the latter read what h says, also when it refuses. Any page can have its visitor's
// browser send a form, and a few wrong passwords would shut the visitor's address out.
// What is no browser sends neither Origin nor Sec-Fetch-Site, and passes.
func (s *Server) sharedDoor(h handle) handle {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header()["Vary"] = varyOrigin
		if r.Header["Origin"] == nil && r.Header["Sec-Fetch-Site"] == nil {
			return h(w, r)
		}
		listed, err := s.origins(r.Context(), s.cfg.SimpleJWT.Client)
		if err != nil {
			return err
		}
		if err := s.djangoFence.check(r, s.cfg.Issuer.URL(), listed); err != nil {
			return err
		}
		if origin := r.Header["Origin"]; len(origin) == 1 && slices.Contains(listed, origin[0]) {
			w.Header()["Access-Control-Allow-Origin"] = origin
			w.Header()["Access-Control-Expose-Headers"] = readableByPage
		}
		return h(w, r)
	}
}

func (s *Server) doorPreflight(w http.ResponseWriter, r *http.Request) error {
	origin, err := askedOrigin(w, r)
	if err != nil {
		return err
	}
	allowed, err := s.cfg.Issuer.AllowsOrigin(r.Context(), s.cfg.SimpleJWT.Client, origin)
	if err != nil {
		return err
	}
	return permit(w, origin, allowed)
}

func (s *Server) obtainPair(w http.ResponseWriter, r *http.Request) error {
	fields, err := readFields(w, r, "username", "password")
	if err != nil {
		return err
	}
	client := s.cfg.SimpleJWT.Client
	grant, err := s.login(r, issuer.LoginRequest{
		Client: client, Endpoint: issuer.LoginSimpleJWT, Name: fields[0], Password: refusal.Secret(fields[1]),
	})
	if refusedAs(err, "invalid_target") || refusedAs(err, "invalid_scope") {
		return &clientError{client, s.shut(r.Context(), client, err)} // nothing was asked for: it is the client that is unfit
	} else if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Refresh refusal.Secret `json:"refresh"`
		Access  string         `json:"access"`
	}{grant.Refresh, grant.AccessToken})
}

func (s *Server) refreshPair(w http.ResponseWriter, r *http.Request) error {
	req, err := s.readDoorRequest(w, r)
	if err != nil {
		return err
	}
	grant, err := s.cfg.Issuer.Refresh(r.Context(), req)
	if err != nil {
		return s.tokenRefused(r.Context(), req.Token, err)
	}
	return writeJSON(w, http.StatusOK, struct {
		Access  string         `json:"access"`
		Refresh refusal.Secret `json:"refresh"`
	}{grant.AccessToken, grant.Refresh})
}

// blacklist ends the family of any token of it, and then says what simplejwt would have
// said of that one: a token that had expired, or was spent or revoked before, is refused.
// The words are found first, since to have ended is a reason of its own.
func (s *Server) blacklist(w http.ResponseWriter, r *http.Request) error {
	req, err := s.readDoorRequest(w, r)
	if err != nil {
		return err
	}
	refused := s.cfg.Issuer.VerifyToken(r.Context(), req.Client, req.Token)
	if refused != nil {
		refused = s.tokenRefused(r.Context(), req.Token, refused)
	}
	err = s.cfg.Issuer.Logout(r.Context(), req)
	switch {
	case err != nil && !refusedAs(err, "invalid_grant"):
		return s.atDoor(r.Context(), req.Client, err)
	case refused != nil:
		return refused
	case err != nil: // an access token, which is good and ends nothing
		return s.tokenRefused(r.Context(), req.Token, err)
	}
	return writeJSON(w, http.StatusOK, struct{}{})
}

// verifyToken words a spent token in a way of its own, as there.
func (s *Server) verifyToken(w http.ResponseWriter, r *http.Request) error {
	fields, err := readFields(w, r, "token")
	if err != nil {
		return err
	}
	token := refusal.Secret(fields[0])
	if err := s.cfg.Issuer.VerifyToken(r.Context(), s.cfg.SimpleJWT.Client, token); err != nil {
		err = s.tokenRefused(r.Context(), token, err)
		if refusedAs(err, "token_blacklisted") {
			return fieldErrors{{noField, "Token is blacklisted"}}
		}
		return err
	}
	return writeJSON(w, http.StatusOK, struct{}{})
}

func (s *Server) readDoorRequest(w http.ResponseWriter, r *http.Request) (issuer.RefreshRequest, error) {
	fields, err := readFields(w, r, "refresh")
	if err != nil {
		return issuer.RefreshRequest{}, err
	}
	return issuer.RefreshRequest{
		Client: s.cfg.SimpleJWT.Client, Token: refusal.Secret(fields[0]), From: s.address(r),
	}, nil
}

// tokenRefused finds which of simplejwt's answers an invalid_grant is: it tells tokens
// that were spent or revoked, and good ones of the wrong type, from the rest. Only tokens
// of this client's are told apart.
func (s *Server) tokenRefused(ctx context.Context, token refusal.Secret, err error) error {
	client := s.cfg.SimpleJWT.Client
	if !refusedAs(err, "invalid_grant") {
		return s.atDoor(ctx, client, err)
	}
	if strings.Contains(string(token), ".") { // a JWT
		if s.cfg.Issuer.VerifyToken(ctx, client, token) == nil {
			err = refusal.New("token_wrong_type", "an access token cannot be refreshed")
		}
		return &clientError{client, err}
	}
	why, fault := s.cfg.Issuer.Explain(ctx, token)
	if fault == nil && why.Session != nil && why.Session.Client == client && spent(why.Verdict) {
		refused := refusal.New("token_blacklisted", "the token was used or revoked before")
		refused.Cause = err
		err = refused
	}
	return &clientError{client, err}
}

func spent(verdict string) bool {
	switch verdict {
	case "late_retry", "replay", "rolled_back", "revoked":
		return true
	}
	return false
}
