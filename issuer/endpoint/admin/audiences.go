package admin

import (
	"net/http"

	"keymill/issuer/api"
)

func (a *API) listAudiences(r *http.Request, after string, limit int) ([]api.Audience, error) {
	return a.cfg.Issuer.Audiences(r.Context(), after, limit)
}

func (a *API) addAudience(r *http.Request, audience api.Audience) (api.Audience, error) {
	return a.cfg.Issuer.AddAudience(r.Context(), audience, Actor(r))
}

func (a *API) showAudience(r *http.Request, name string) (api.Audience, error) {
	return a.cfg.Issuer.Audience(r.Context(), name)
}

func (a *API) setAudience(r *http.Request, name string, change api.AudienceChange) (api.Audience, error) {
	only, err := condition(r)
	if err != nil {
		return api.Audience{}, err
	}
	return a.cfg.Issuer.SetAudience(r.Context(), name, change, Actor(r), only)
}

func (a *API) removeAudience(r *http.Request, name string) (any, error) {
	only, err := condition(r)
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Issuer.RemoveAudience(r.Context(), name, Actor(r), only)
}
