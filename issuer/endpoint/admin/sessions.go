package admin

import (
	"context"
	"net/http"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func (a *API) listSessions(r *http.Request, after string, limit int) (page api.SessionPage, err error) {
	query := r.URL.Query() // paged has checked it
	for _, name := range []string{"user", "client", "after"} {
		// Perhaps from a variable that is not set. It must not mean all users.
		if query.Has(name) && query.Get(name) == "" {
			return page, refusal.New("invalid_request", "parameter '%s' is empty", name)
		}
	}
	return a.cfg.Issuer.Sessions(r.Context(), issuer.SessionQuery{
		User: query.Get("user"), Client: query.Get("client"), After: after, Limit: limit,
	})
}

func (a *API) revokeSession(r *http.Request, id string) (api.Session, error) {
	return a.cfg.Issuer.RevokeSession(r.Context(), id, Actor(r))
}

// revokeSessions ends all sessions of one client, or of the store. The body must say which:
// an empty one must not log out all users.
func (a *API) revokeSessions(r *http.Request, req api.RevokeSessionsRequest) (any, error) {
	switch {
	case req.All == (req.Client != ""):
		return nil, refusal.New("invalid_request", "the body must have either member 'client' or 'all': true")
	case req.All:
		err := a.cfg.Issuer.RevokeAllSessions(r.Context(), Actor(r))
		if err == nil {
			a.cfg.Keys.WriteRevoked(context.WithoutCancel(r.Context())) // it lists the new epoch
		}
		return nil, err
	}
	return nil, a.cfg.Issuer.RevokeClientSessions(r.Context(), req.Client, Actor(r))
}

func (a *API) rotateRefreshSecret(r *http.Request) (api.RefreshSecret, error) {
	return a.cfg.Issuer.RotateRefreshSecret(r.Context(), Actor(r))
}

// explainToken is a POST although it changes nothing: the query of a GET, and so the token,
// would be logged by proxies and stay in histories.
func (a *API) explainToken(r *http.Request, req api.ExplainRequest) (api.Explanation, error) {
	if req.Token == "" {
		return api.Explanation{}, missing("token")
	}
	return a.cfg.Issuer.Explain(r.Context(), req.Token)
}
