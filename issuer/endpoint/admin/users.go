package admin

import (
	"net/http"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
)

func (a *API) listUsers(r *http.Request, after string, limit int) ([]api.User, error) {
	return a.cfg.Issuer.Users(r.Context(), after, limit)
}

func (a *API) addUser(r *http.Request, user api.NewUser) (api.User, error) {
	return a.cfg.Issuer.AddUser(r.Context(), user, Actor(r))
}

func (a *API) showUser(r *http.Request, name string) (api.UserDetails, error) {
	u, err := a.cfg.Issuer.User(r.Context(), name)
	return a.withFailures(u), err
}

// unblockUser forgets the failed logins after the audit record is durable.
func (a *API) unblockUser(r *http.Request, name string) (api.UserDetails, error) {
	u, err := a.cfg.Issuer.UnblockUser(r.Context(), name, Actor(r))
	if err == nil {
		a.cfg.Passwords.Unblock(issuer.LoginCountKeyOf(u.ID))
	}
	return a.withFailures(u), err
}

// withFailures adds what the limits on guessing know about a user.
func (a *API) withFailures(u api.User) api.UserDetails {
	account := a.cfg.Passwords.Account(issuer.LoginCountKeyOf(u.ID))
	shown := api.UserDetails{User: u, RecentFailures: account.Failures, DrawnUntil: end(account.Drawn), Blocked: []api.BlockedLogin{}}
	for _, b := range account.Blocked {
		from, until := b.From.String(), b.Until.UTC().Truncate(time.Second)
		if b.From.Is6() {
			from += "/64"
		}
		shown.Blocked = append(shown.Blocked, api.BlockedLogin{From: from, Until: until})
		if shown.BlockedUntil == nil || until.After(*shown.BlockedUntil) {
			shown.BlockedUntil = &until
		}
	}
	return shown
}

func (a *API) setUser(r *http.Request, name string, change api.UserChange) (api.User, error) {
	only, err := condition(r)
	if err != nil {
		return api.User{}, err
	}
	return a.cfg.Issuer.SetUser(r.Context(), name, change, Actor(r), only)
}

func (a *API) setPassword(r *http.Request, name string, req api.SetPasswordRequest) (api.User, error) {
	return a.cfg.Issuer.SetPassword(r.Context(), name, req.Password, Actor(r))
}

func (a *API) logoutUser(r *http.Request, name string) (api.User, error) {
	return a.cfg.Issuer.LogoutUser(r.Context(), name, Actor(r))
}

func (a *API) removeUser(r *http.Request, name string) (any, error) {
	only, err := condition(r)
	if err != nil {
		return nil, err
	}
	u, err := a.cfg.Issuer.User(r.Context(), name)
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Issuer.RemoveUser(r.Context(), "id:"+u.ID, Actor(r), only); err != nil {
		return nil, err
	}
	a.cfg.Passwords.Forget(issuer.LoginCountKeyOf(u.ID)) // another user may get the id
	return nil, nil
}
