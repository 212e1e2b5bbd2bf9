package admin

import (
	"net/http"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func (a *API) listClients(r *http.Request) (any, error) {
	after, limit, err := queryPage(r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.Clients(r.Context(), after, limit)
}

// addClient returns the client's secret. It cannot be shown again.
func (a *API) addClient(r *http.Request) (any, error) {
	client, err := decode[api.NewClient](r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.AddClient(r.Context(), client, Actor(r))
}

func (a *API) showClient(r *http.Request) (any, error) {
	id, err := queryName(r, "id")
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.Client(r.Context(), id)
}

func (a *API) setClient(r *http.Request) (any, error) {
	id, err := queryName(r, "id")
	if err != nil {
		return nil, err
	}
	change, err := decode[api.ClientChange](r)
	if err != nil {
		return nil, err
	}
	return a.cfg.Issuer.SetClient(r.Context(), id, change, Actor(r))
}

// rotateSecret returns the new secret. It cannot be shown again.
func (a *API) rotateSecret(r *http.Request) (any, error) {
	id, err := queryName(r, "id")
	if err != nil {
		return nil, err
	}
	req, err := decode[api.RotateSecretRequest](r)
	if err != nil {
		return nil, err
	}
	var keep time.Duration
	if req.OldFor != "" {
		if keep, err = time.ParseDuration(req.OldFor); err != nil {
			return nil, refusal.New("invalid_request", "member 'old_for' must be a duration such as 24h")
		}
	}
	return a.cfg.Issuer.RotateSecret(r.Context(), id, keep, Actor(r))
}

func (a *API) removeClient(r *http.Request) (any, error) {
	id, err := queryName(r, "id")
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Issuer.RemoveClient(r.Context(), id, Actor(r))
}
