package admin

import (
	"io"
	"net/http"
)

// backup streams a copy of the store.
func (a *API) backup(r *http.Request) (Stream, error) {
	by := Actor(r)
	return func(w io.Writer) error { return a.cfg.Backup(r.Context(), w, by) }, nil
}
