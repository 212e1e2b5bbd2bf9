package admin

import (
	"net/http"

	"keymill/issuer/api"
)

func (a *API) listUsers(r *http.Request, after string, limit int) (any, error) {
	return a.cfg.Issuer.Users(r.Context(), after, limit)
}

func (a *API) addUser(r *http.Request, user api.NewUser) (any, error) {
	return a.cfg.Issuer.AddUser(r.Context(), user, Actor(r))
}

func (a *API) showUser(r *http.Request, name string) (any, error) {
	return a.cfg.Issuer.User(r.Context(), name)
}

func (a *API) setUser(r *http.Request, name string, change api.UserChange) (any, error) {
	return a.cfg.Issuer.SetUser(r.Context(), name, change, Actor(r))
}

func (a *API) setPassword(r *http.Request, name string, req api.SetPasswordRequest) (any, error) {
	return a.cfg.Issuer.SetPassword(r.Context(), name, req.Password, Actor(r))
}

func (a *API) logoutUser(r *http.Request, name string) (any, error) {
	return a.cfg.Issuer.LogoutUser(r.Context(), name, Actor(r))
}

func (a *API) removeUser(r *http.Request, name string) (any, error) {
	return nil, a.cfg.Issuer.RemoveUser(r.Context(), name, Actor(r))
}
