package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// A loginEndpoint is where users log in through one client. Pages of the issuer's own
// origin and of the client's origins may use it.
type loginEndpoint struct {
	name    issuer.LoginEndpoint
	client  string
	cookies bool // pages of the client's origins may send cookies
	format  *errorFormat
	origins originCheck
}

// loginRoutes adds the paths of a login endpoint: POST, and OPTIONS for preflight requests.
func (s *Server) loginRoutes(rt *router, e *loginEndpoint, handlers map[string]handler) {
	for path, h := range handlers {
		rt.formats[path] = e.format
		rt.handle(http.MethodPost, path, s.fromOrigins(e, h))
		rt.handle(http.MethodOptions, path, s.loginPreflight(e))
	}
}

// fromOrigins checks the origin of a page before h runs, and lets pages of the client's
// origins read the answer, errors included. Any page can make a visitor's browser send a
// form. With a few wrong passwords it could block the visitor's address. Programs that are
// not browsers send neither Origin nor Sec-Fetch-Site, and need no check without a cookie.
func (s *Server) fromOrigins(e *loginEndpoint, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		header := w.Header()
		header["Vary"] = varyOrigin
		if !e.cookies && r.Header["Origin"] == nil && r.Header["Sec-Fetch-Site"] == nil {
			return h(w, r)
		}
		listed, err := s.cfg.Issuer.Origins(r.Context(), e.client)
		if err != nil {
			return err
		}
		if err := e.origins.check(r, s.origin, listed); err != nil {
			return err
		}
		if origin := r.Header["Origin"]; len(origin) == 1 && slices.Contains(listed, origin[0]) {
			header["Access-Control-Allow-Origin"] = origin
			header["Access-Control-Expose-Headers"] = readableByPage
			if e.cookies {
				header["Access-Control-Allow-Credentials"] = withCookies
			}
		}
		if e.cookies {
			if err := checkSite(r, s.cfg.Issuer.URL()); err != nil {
				return err
			}
		}
		return h(w, r)
	}
}

// loginPreflight also allows the origins that checkSite refuses, so that their pages can read why.
func (s *Server) loginPreflight(e *loginEndpoint) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		origin, err := requestedOrigin(w, r)
		if err != nil {
			return err
		}
		listed, err := s.cfg.Issuer.Origins(r.Context(), e.client)
		if err != nil {
			return err
		}
		allowed := slices.Contains(listed, origin)
		if allowed && e.cookies {
			w.Header()["Access-Control-Allow-Credentials"] = withCookies
		}
		return answerPreflight(w, r, origin, allowed)
	}
}

// loginTime bounds a login and all its waiting. It leaves time for the answer: the
// http.Server closes the connection after 30 s.
const loginTime = 25 * time.Second

// login logs a user in, unless too many passwords were wrong before. It fills in the fields
// of req that do not come from the body.
func (s *Server) login(r *http.Request, e *loginEndpoint, req issuer.LoginRequest) (issuer.Grant, error) {
	ctx, cancel := context.WithTimeout(r.Context(), loginTime)
	defer cancel()
	req.Client, req.Endpoint, req.From = e.client, e.name, s.address(r)
	count, err := s.cfg.Issuer.LoginCount(ctx, req.Name, req.From)
	if err != nil {
		return issuer.Grant{}, err
	}
	account := count.Key
	s.passwords.Unblock(account, count.Unblocked, count.Ago)
	if count.Known {
		s.passwords.Remember(account, req.From)
	}
	attempt, err := s.passwords.Enter(ctx, account, req.From)
	if err != nil {
		return issuer.Grant{}, s.refuseLogin(ctx, e, account, err)
	}
	req.Place = attempt.Place()
	grant, err := s.checkPassword(ctx, attempt, req)
	s.issued(e.name.String(), grant, err)
	if err != nil {
		return issuer.Grant{}, s.refuseLogin(ctx, e, account, err)
	}
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "logged in", slog.String("client", req.Client), slog.String("user", grant.User),
		slog.String("session", grant.Session), slog.String("path", r.URL.Path), slog.String("from", req.From.String()))
	return grant, nil
}

// checkPassword ends the attempt in any case, a panic included.
func (s *Server) checkPassword(ctx context.Context, a *limit.Attempt, req issuer.LoginRequest) (issuer.Grant, error) {
	end := a.Abandoned
	defer func() { end() }()
	grant, err := s.cfg.Issuer.Login(ctx, req)
	switch {
	case err == nil:
		end = a.Succeeded
	case refusedAs(err, "invalid_credentials"), refusal.CodeOf(err) == issuer.DamagedLogin:
		end = a.Failed
	}
	return grant, err
}

// refuseLogin adds to an error what only the operator may know: the account, if it exists,
// and the reason. It counts refusals for the audit log.
func (s *Server) refuseLogin(ctx context.Context, e *loginEndpoint, account string, err error) error {
	reason := &refusal.Reason{Code: refusal.CodeOf(err)}
	var limited *limit.Error
	switch {
	case errors.As(err, &limited):
		reason = tooManyFailures(limited)
	case errors.As(err, new(*issuer.BusyError)):
		reason.Code = "busy"
	}
	if reason.Code != "" {
		s.refused.Count(reason.Code)
	}
	reason.Code = cmp.Or(reason.Code, "failed")
	reason.Login, reason.User, reason.Err = true, issuer.UserOfCountKey(account), s.loginError(ctx, e, err)
	return reason
}

// tooManyFailures adds to an error for the log which limit it is, and when it ends.
func tooManyFailures(err *limit.Error) *refusal.Reason {
	return &refusal.Reason{
		Code: "too_many_failures", Until: time.Now().Add(err.RetryAfter), Facts: map[string]string{"limit": err.Limit}, Err: err,
	}
}

// loginError adds the client to an error. If the client cannot be used at a login endpoint
// at all, the answer is 503, and only the log says why.
func (s *Server) loginError(ctx context.Context, e *loginEndpoint, err error) error {
	if refusedAs(err, "unauthorized_client") {
		return s.unusable(ctx, e, err)
	}
	return &clientError{e.client, err}
}

// An UnusableClient describes the client of a login endpoint through which no user can log
// in.
type UnusableClient struct {
	Endpoint issuer.LoginEndpoint // where a user tried to log in
	ID       string               // of the client, from the configuration
	Client   api.Client           // as it is in the store; zero if it does not exist
	Found    bool                 // whether it exists
}

func (s *Server) unusable(ctx context.Context, e *loginEndpoint, cause error) error {
	c, err := s.cfg.Issuer.Client(ctx, e.client)
	if s.cfg.Advice != nil && (err == nil || refusedAs(err, "not_found")) {
		if advice := s.cfg.Advice(UnusableClient{e.name, e.client, c, err == nil}); advice != "" {
			cause = fmt.Errorf("%w; %s", cause, advice)
		}
	}
	refused := newStatusError(http.StatusServiceUnavailable, serverError, "logins are not possible until the operator has repaired the server, see its log")
	refused.Cause = cause
	return &clientError{e.client, refused}
}
