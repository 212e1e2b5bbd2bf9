package admin

import (
	"net/http"

	"keymill/issuer/api"
	"keymill/issuer/applied"
	"keymill/issuer/refusal"
)

// marks returns the marks of keymill apply, or a refusal if this server has none.
func (a *API) marks() (*applied.Marks, error) {
	if a.cfg.Applied == nil {
		return nil, refusal.New("not_found", "this server does not remember what was applied")
	}
	return a.cfg.Applied, nil
}

func (a *API) listApplied(r *http.Request, after string, limit int) ([]api.Applied, error) {
	marks, err := a.marks()
	if err != nil {
		return nil, err
	}
	return marks.List(r.Context(), after, limit)
}

func (a *API) putApplied(r *http.Request, name string) (api.Applied, error) {
	marks, err := a.marks()
	if err != nil {
		return api.Applied{}, err
	}
	return marks.Put(r.Context(), r.URL.Query().Get(appliedKind.Name), name, Actor(r)) // named has checked the query
}

func (a *API) removeApplied(r *http.Request, name string) (any, error) {
	marks, err := a.marks()
	if err != nil {
		return nil, err
	}
	return nil, marks.Remove(r.Context(), r.URL.Query().Get(appliedKind.Name), name, Actor(r))
}
