package admin

import (
	"context"
	"net/http"
	"time"

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
	if err != nil {
		return api.UserDetails{}, err
	}
	return a.withFailures(r.Context(), u)
}

func (a *API) unblockUser(r *http.Request, name string) (api.UserDetails, error) {
	u, err := a.cfg.Issuer.UnblockUser(r.Context(), name, Actor(r))
	if err != nil {
		return api.UserDetails{}, err
	}
	return a.withFailures(r.Context(), u)
}

// withFailures adds what the limits on guessing know about a user. It forgets the failed logins first if the user was
// unblocked, here or at another server of the store.
func (a *API) withFailures(ctx context.Context, u api.User) (api.UserDetails, error) {
	count, err := a.cfg.Issuer.LoginCountOf(ctx, u.ID)
	if err != nil {
		return api.UserDetails{}, err
	}
	a.cfg.Passwords.Unblock(count.Key, count.Unblocked, count.Ago)
	account := a.cfg.Passwords.Account(count.Key)
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
	return shown, nil
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
	count, err := a.cfg.Issuer.LoginCountOf(r.Context(), u.ID)
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Issuer.RemoveUser(r.Context(), "id:"+u.ID, Actor(r), only); err != nil {
		return nil, err
	}
	a.cfg.Passwords.Forget(count.Key) // a user who gets the id within the same second has the same key
	return nil, nil
}
