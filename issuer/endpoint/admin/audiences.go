package admin

import (
	"net/http"

	"keymill/issuer/api"
)

func (a *API) listAudiences(r *http.Request) (any, error) {
	after, limit, err := queryPage(r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.Audiences(r.Context(), after, limit)
}

func (a *API) addAudience(r *http.Request) (any, error) {
	audience, err := decode[api.Audience](r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.AddAudience(r.Context(), audience, Actor(r))
}

func (a *API) showAudience(r *http.Request) (any, error) {
	name, err := queryName(r, "name")
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.Audience(r.Context(), name)
}

func (a *API) setAudience(r *http.Request) (any, error) {
	name, err := queryName(r, "name")
	if err != nil {
		return nil, err
	}
	change, err := decode[api.AudienceChange](r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.SetAudience(r.Context(), name, change, Actor(r))
}

func (a *API) removeAudience(r *http.Request) (any, error) {
	name, err := queryName(r, "name")
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Issuer.RemoveAudience(r.Context(), name, Actor(r))
}
