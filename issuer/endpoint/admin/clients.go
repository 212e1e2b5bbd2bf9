package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/site"
	"keymill/issuer/refusal"
)

func (a *API) listClients(r *http.Request, after string, limit int) ([]api.Client, error) {
	return a.cfg.Issuer.Clients(r.Context(), after, limit)
}

// addClient returns the client's secret. It cannot be shown again.
func (a *API) addClient(r *http.Request, client api.NewClient) (api.Client, error) {
	added, err := a.cfg.Issuer.AddClient(r.Context(), client, Actor(r))
	added.Warnings = append(site.Warnings(added.Origins, a.cfg.Issuer.URL()), a.useless(added)...)
	return added, err
}

// useless warns about a client that can do nothing as it is.
func (a *API) useless(c api.Client) []string {
	if why := c.Useless(); why != "" {
		return []string{"client " + c.ID + " can do nothing: " + why}
	}
	if len(c.Claims) > 0 && !slices.Contains(c.Grants, "client_credentials") {
		return []string{"the claims of client " + c.ID + " are in no token: they are for tokens of the client itself, and it is not allowed the grant client_credentials"}
	}
	logins := a.cfg.LoginsOf
	if c.Disabled || logins == nil || len(logins(c.ID)) > 0 || len(c.Introspect) > 0 || !slices.Equal(c.Grants, []string{"refresh_token"}) {
		return nil
	}
	return []string{"client " + c.ID + " can do nothing yet: users log in only through the clients that session.client and simplejwt.client name"}
}

func (a *API) showClient(r *http.Request, id string) (api.Client, error) {
	return a.cfg.Issuer.Client(r.Context(), id)
}

func (a *API) setClient(r *http.Request, id string, change api.ClientChange) (api.Client, error) {
	only, err := condition(r)
	if err != nil {
		return api.Client{}, err
	}
	changed, err := a.cfg.Issuer.SetClient(r.Context(), id, change, Actor(r), only)
	if change.Origins != nil {
		changed.Warnings = site.Warnings(changed.Origins, a.cfg.Issuer.URL())
	}
	changed.Warnings = append(changed.Warnings, a.useless(changed)...)
	return changed, err
}

// rotateSecret returns the new secret. It cannot be shown again.
func (a *API) rotateSecret(r *http.Request, id string, req api.RotateSecretRequest) (api.Client, error) {
	var keep time.Duration
	if req.OldFor != "" {
		var err error
		if keep, err = time.ParseDuration(req.OldFor); err != nil {
			return api.Client{}, refusal.New("invalid_request", "member 'old_for' must be a duration such as 24h")
		}
	}
	return a.cfg.Issuer.RotateSecret(r.Context(), id, keep, Actor(r))
}

// removeClient removes a client. With unused=true it refuses to remove one that a login endpoint uses
// or that has live sessions.
func (a *API) removeClient(r *http.Request, id string) (any, error) {
	only, err := condition(r)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query() // named has checked it
	if query.Has("unused") {
		if query.Get("unused") != "true" {
			return nil, refusal.New("invalid_request", "parameter 'unused' must be true, or be left out")
		}
		if err := a.checkUnused(r.Context(), id); err != nil {
			return nil, err
		}
	}
	return nil, a.cfg.Issuer.RemoveClient(r.Context(), id, Actor(r), only)
}

// checkUnused refuses with in_use if users log in through the client.
func (a *API) checkUnused(ctx context.Context, id string) error {
	if _, err := a.cfg.Issuer.Client(ctx, id); err != nil {
		return err
	}
	var uses []string
	if a.cfg.LoginsOf != nil {
		if endpoints := a.cfg.LoginsOf(id); len(endpoints) > 0 {
			uses = append(uses, "is the client that users log in through (login endpoint "+strings.Join(endpoints, ", ")+")")
		}
	}
	live, err := a.cfg.Issuer.HasLiveSession(ctx, id)
	if err != nil {
		return err
	}
	if live {
		uses = append(uses, "has live sessions, which would end")
	}
	if len(uses) > 0 {
		return refusal.New("in_use", "client %s %s", id, strings.Join(uses, " and "))
	}
	return nil
}
