package admin

import (
	"io"
	"net/http"

	"keymill/issuer/api"
)

// migrate takes one step of a migration of the store.
func (a *API) migrate(r *http.Request, q api.MigrationRequest) (api.Migration, error) {
	return a.cfg.Migrate(r.Context(), q, Actor(r))
}

// migrationRecords streams the records of a store that is being moved.
func (a *API) migrationRecords(r *http.Request) (Stream, error) {
	return func(w io.Writer) error { return a.cfg.Records(r.Context(), w) }, nil
}
