package admin

import (
	"io"
	"net/http"
)

// A Stream is an answer that is not JSON and may be long. It writes the body. If it returns an error
// before it has written anything, that error is the answer; after it the connection is closed before
// the end of the body, so that the caller sees that the body is not whole.
type Stream func(w io.Writer) error

// backup streams a copy of the store.
func (a *API) backup(r *http.Request) (Stream, error) {
	by := Actor(r)
	return Stream(func(w io.Writer) error { return a.cfg.Backup(r.Context(), w, by) }), nil
}
