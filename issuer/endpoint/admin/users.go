package admin

import (
	"net/http"

	"keymill/issuer/api"
)

func (a *API) listUsers(r *http.Request) (any, error) {
	after, limit, err := queryPage(r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.Users(r.Context(), after, limit)
}

func (a *API) addUser(r *http.Request) (any, error) {
	user, err := decode[api.NewUser](r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.AddUser(r.Context(), user, Actor(r))
}

func (a *API) showUser(r *http.Request) (any, error) {
	name, err := queryName(r, "user")
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.User(r.Context(), name)
}

func (a *API) setUser(r *http.Request) (any, error) {
	name, err := queryName(r, "user")
	if err != nil {
		return nil, err
	}
	change, err := decode[api.UserChange](r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.SetUser(r.Context(), name, change, Actor(r))
}

func (a *API) setPassword(r *http.Request) (any, error) {
	name, err := queryName(r, "user")
	if err != nil {
		return nil, err
	}
	req, err := decode[api.SetPasswordRequest](r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.SetPassword(r.Context(), name, req.Password, Actor(r))
}

func (a *API) logoutUser(r *http.Request) (any, error) {
	name, err := queryName(r, "user")
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.LogoutUser(r.Context(), name, Actor(r))
}

func (a *API) removeUser(r *http.Request) (any, error) {
	name, err := queryName(r, "user")
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Issuer.RemoveUser(r.Context(), name, Actor(r))
}
