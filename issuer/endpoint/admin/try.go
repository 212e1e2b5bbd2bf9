package admin

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"keymill/issuer/refusal"
	"keymill/storage"
)

// dryRun is the parameter of a route that can be tried.
var dryRun = Parameter{
	Name: "dry_run", Values: []string{"true"},
	Doc: "decide about the request and change nothing: 204 says that the same request would have succeeded at that moment",
}

// triable returns an Operation that can be tried, see storage.Rehearsal.
func triable(o Operation) Operation {
	h := o.Handler
	o.Query = append(slices.Clone(o.Query), dryRun)
	o.Handler = func(r *http.Request) (any, error) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		values, try := query[dryRun.Name]
		if err != nil || !try {
			return h(r) // which refuses a query that is malformed
		}
		if len(values) > 1 || values[0] != "true" {
			return nil, refusal.New("invalid_request", "parameter '%s' must be true, or be left out", dryRun.Name)
		}
		query.Del(dryRun.Name) // h knows no such parameter
		tried := r.Clone(storage.Rehearsal(r.Context()))
		tried.URL.RawQuery = query.Encode()
		if _, err := h(tried); err != nil && !errors.Is(err, storage.ErrRehearsed) {
			return nil, err
		}
		return stored{status: http.StatusNoContent}, nil
	}
	return o
}
