package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"keymill/issuer"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// loginTime bounds a login with all its waiting, so that there is still time for the
// answer: the server writes none that comes after 30 s.
const loginTime = 25 * time.Second

// login lets somebody in at a door, unless too many passwords were wrong before.
func (s *Server) login(r *http.Request, req issuer.LoginRequest) (issuer.Grant, error) {
	ctx, cancel := context.WithTimeout(r.Context(), loginTime)
	defer cancel()
	req.From = s.address(r)
	account, err := s.cfg.Issuer.Account(ctx, req.Name)
	if err != nil {
		return issuer.Grant{}, err
	}
	attempt, err := s.passwords.Enter(ctx, account, req.From)
	if err != nil {
		s.countLogin(err)
		return issuer.Grant{}, err
	}
	grant, err := s.attempt(ctx, attempt, req)
	if err != nil {
		s.countLogin(err)
		return issuer.Grant{}, s.atDoor(ctx, req.Client, err)
	}
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "logged in", slog.String("client", req.Client),
		slog.String("user", grant.User), slog.String("path", r.URL.Path), slog.String("from", req.From.String()))
	return grant, nil
}

// attempt gives the place back whatever happens, a panic included.
func (s *Server) attempt(ctx context.Context, a *limit.Attempt, req issuer.LoginRequest) (issuer.Grant, error) {
	settle := a.Abandoned
	defer func() { settle() }()
	grant, err := s.cfg.Issuer.Login(ctx, req)
	switch {
	case err == nil:
		settle = a.Succeeded
	case refusedAs(err, "invalid_credentials"):
		settle = a.Failed
	}
	return grant, err
}

// countLogin counts for the audit log what was refused because of whoever asked.
func (s *Server) countLogin(err error) {
	var limited *limit.Error
	var busy *issuer.BusyError
	switch {
	case refusedAs(err, "invalid_credentials"):
		s.refused.count("invalid_credentials")
	case errors.As(err, &limited):
		s.refused.count("too_many_failures")
	case errors.As(err, &busy):
		s.refused.count("busy")
	}
}

// atDoor adds the client to an error. If that client cannot be used at a door at all, the
// stranger learns that the door is shut, and the operator how to open it.
func (s *Server) atDoor(ctx context.Context, client string, err error) error {
	if !refusedAs(err, "unauthorized_client") {
		return &clientError{client, err}
	}
	return &clientError{client, s.shut(ctx, client, err)}
}

func (s *Server) shut(ctx context.Context, client string, cause error) error {
	refused := refusal.New(temporarilyUnavailable, "nobody can log in here just now")
	refused.Cause = fmt.Errorf("%w; the operator's cure: %s", cause, s.cure(ctx, client))
	return &statusError{http.StatusServiceUnavailable, 0, refused}
}

// cure says what an operator has to type so that a door's client can be used.
func (s *Server) cure(ctx context.Context, client string) string {
	c, err := s.cfg.Issuer.Client(ctx, client)
	switch {
	case refusedAs(err, "not_found"):
		return fmt.Sprintf("keymill client add %s --public --grant refresh_token --audience NAME", client)
	case err == nil && c.Disabled:
		return fmt.Sprintf("keymill client enable %s", client)
	}
	grants := "" // what is typed replaces all
	for _, grant := range c.Grants {
		grants += " --grant " + grant
	}
	if !slices.Contains(c.Grants, "refresh_token") {
		grants += " --grant refresh_token"
	}
	if len(c.Audiences) == 0 {
		grants += " --audience NAME"
	}
	return fmt.Sprintf("keymill client set %s%s", client, grants)
}

func refusedAs(err error, code string) bool {
	var refused *refusal.Refusal
	return errors.As(err, &refused) && refused.Code == code
}
