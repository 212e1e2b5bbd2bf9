package admin

import (
	"net/http"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/site"
	"keymill/issuer/refusal"
)

func (a *API) listClients(r *http.Request, after string, limit int) (any, error) {
	return a.cfg.Issuer.Clients(r.Context(), after, limit)
}

// addClient returns the client's secret. It cannot be shown again.
func (a *API) addClient(r *http.Request, client api.NewClient) (any, error) {
	added, err := a.cfg.Issuer.AddClient(r.Context(), client, Actor(r))
	added.Warnings = site.Warnings(added.Origins, a.cfg.Issuer.URL())
	return added, err
}

func (a *API) showClient(r *http.Request, id string) (any, error) {
	return a.cfg.Issuer.Client(r.Context(), id)
}

func (a *API) setClient(r *http.Request, id string, change api.ClientChange) (any, error) {
	changed, err := a.cfg.Issuer.SetClient(r.Context(), id, change, Actor(r))
	if change.Origins != nil {
		changed.Warnings = site.Warnings(changed.Origins, a.cfg.Issuer.URL())
	}
	return changed, err
}

// rotateSecret returns the new secret. It cannot be shown again.
func (a *API) rotateSecret(r *http.Request, id string, req api.RotateSecretRequest) (any, error) {
	var keep time.Duration
	if req.OldFor != "" {
		var err error
		if keep, err = time.ParseDuration(req.OldFor); err != nil {
			return nil, refusal.New("invalid_request", "member 'old_for' must be a duration such as 24h")
		}
	}
	return a.cfg.Issuer.RotateSecret(r.Context(), id, keep, Actor(r))
}

func (a *API) removeClient(r *http.Request, id string) (any, error) {
	return nil, a.cfg.Issuer.RemoveClient(r.Context(), id, Actor(r))
}
