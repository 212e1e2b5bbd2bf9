package admin

import (
	"net/http"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/issuer/verifiers"
	"keymill/keystore"
)

// registry returns the verifiers, or a refusal if this server follows none.
func (a *API) registry() (*verifiers.Registry, error) {
	if a.cfg.Verifiers == nil {
		return nil, refusal.New("not_found", "this server does not follow verifiers")
	}
	return a.cfg.Verifiers, nil
}

func (a *API) listVerifiers(_ *http.Request, after string, limit int) ([]api.Verifier, error) {
	known, err := a.registry()
	if err != nil {
		return nil, err
	}
	return append([]api.Verifier{}, known.List(after, limit)...), nil
}

func (a *API) addVerifier(r *http.Request, v api.NewVerifier) (api.Verifier, error) {
	known, err := a.registry()
	if err != nil {
		return api.Verifier{}, err
	}
	return known.Add(r.Context(), v, Actor(r))
}

func (a *API) showVerifier(_ *http.Request, name string) (api.Verifier, error) {
	known, err := a.registry()
	if err != nil {
		return api.Verifier{}, err
	}
	return known.Verifier(name)
}

func (a *API) removeVerifier(r *http.Request, name string) (any, error) {
	known, err := a.registry()
	if err != nil {
		return nil, err
	}
	return nil, known.Remove(r.Context(), name, Actor(r))
}

func (a *API) observedVerifiers(*http.Request) ([]api.ObservedVerifier, error) {
	known, err := a.registry()
	if err != nil {
		return nil, err
	}
	return append([]api.ObservedVerifier{}, known.Observed()...), nil
}

// reach returns who was served a key, nil if it is not published or no verifier is pinned.
func (a *API) reach(k keystore.KeyInfo) *api.Reach {
	published := k.Stage == keystore.Spare || k.Stage == keystore.Active || k.Stage == keystore.Retiring
	if a.cfg.Verifiers == nil || !published {
		return nil
	}
	reach := a.cfg.Verifiers.Reach(k.KID)
	if reach.Pinned == 0 {
		return nil
	}
	reach.Behind = append([]api.BehindItem{}, reach.Behind...)
	return &reach
}

// holders returns which pinned verifiers may hold a key with one of the kids, and how many others.
func (a *API) holders(kids ...string) ([]api.Holder, int) {
	if a.cfg.Verifiers == nil {
		return []api.Holder{}, 0
	}
	pinned, observed := a.cfg.Verifiers.Holders(kids...)
	return append([]api.Holder{}, pinned...), observed
}
