// Package admin has the handlers of the admin API, /admin/v1/…. It is served on a Unix
// socket, to the user of the server and to root only, see ConnContext. The table in package
// api lists all paths with the types of their requests and answers.
//
// A handler reads the request strictly, calls issuer or keystore, and returns the answer or
// an error. Package endpoint routes the requests, marshals the answers, and turns errors into
// answers and log lines, as it does for the public API.
package admin

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
	"keymill/keystore"
)

// Config is what an API needs. Issuer, Keys, Passwords, Issues and Log must be set.
type Config struct {
	Issuer    *issuer.Issuer
	Keys      *keystore.Rings
	Passwords *limit.PasswordLimiter // of the login endpoints

	Issues   func() []string                     // why the server is not ready; never nil
	Warnings func(context.Context) []api.Warning // what else is wrong; may be nil
	Changed  func(context.Context)               // called after each change; may be nil

	// LoginsOf returns the login endpoints where users log in through a client; nil if there are none.
	LoginsOf   func(client string) []string
	StoreBytes func() int64 // size of the store; nil if it is not known
	Version    string       // of the program

	// Backup writes a copy of the store to w, for the administrator by. If it returns an error after it
	// has written something, the copy is not whole.
	Backup func(ctx context.Context, w io.Writer, by string) error
	Log    *slog.Logger
}

// An API has the handlers.
type API struct {
	cfg Config
}

// New returns an API.
func New(cfg Config) *API { return &API{cfg} }

// A Handler returns the answer to a request. It is marshalled as JSON, unless the status
// is 204 or the answer is a Stream.
type Handler func(*http.Request) (answer any, err error)

// A Route says how one method of one path is served.
type Route struct {
	Method  string
	Path    string
	Status  int // of the answer, unless Handler returns an error
	Handler Handler
}

// Routes returns all routes. GET stands for HEAD as well.
func (a *API) Routes() []Route {
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	const ok, created, empty = http.StatusOK, http.StatusCreated, http.StatusNoContent
	return []Route{
		{get, "/admin/v1/status", ok, bare(a.status)},
		{get, "/admin/v1/audit", ok, a.audit},
		{post, "/admin/v1/backup", ok, bare(a.backup)},

		{get, "/admin/v1/keys", ok, bare(a.listKeys)},
		{post, "/admin/v1/keys/rotate", ok, a.logged(withBody(a.rotateKey))},
		{post, "/admin/v1/keys/revoke", ok, a.logged(withBody(a.revokeKey))},
		{post, "/admin/v1/keys/import", ok, a.logged(withBody(a.importKey))},

		{get, "/admin/v1/audiences", ok, paged(a.listAudiences)},
		{post, "/admin/v1/audiences", created, a.logged(withBody(a.addAudience))},
		{get, "/admin/v1/audience", ok, named("name", a.showAudience)},
		{patch, "/admin/v1/audience", ok, a.logged(namedWithBody("name", a.setAudience))},
		{del, "/admin/v1/audience", empty, a.logged(named("name", a.removeAudience))},

		{get, "/admin/v1/clients", ok, paged(a.listClients)},
		{post, "/admin/v1/clients", created, a.logged(withBody(a.addClient))},
		{get, "/admin/v1/client", ok, named("id", a.showClient)},
		{patch, "/admin/v1/client", ok, a.logged(namedWithBody("id", a.setClient))},
		{del, "/admin/v1/client", empty, a.logged(named("id", a.removeClient, "unused"))},
		{post, "/admin/v1/client/secret", ok, a.logged(namedWithBody("id", a.rotateSecret))},

		{get, "/admin/v1/users", ok, paged(a.listUsers)},
		{post, "/admin/v1/users", created, a.logged(withBody(a.addUser))},
		{post, "/admin/v1/users/import", ok, a.logged(withBody(a.importUsers))},
		{get, "/admin/v1/user", ok, named("user", a.showUser)},
		{patch, "/admin/v1/user", ok, a.logged(namedWithBody("user", a.setUser))},
		{del, "/admin/v1/user", empty, a.logged(named("user", a.removeUser))},
		{post, "/admin/v1/user/password", ok, a.logged(namedWithBody("user", a.setPassword))},
		{post, "/admin/v1/user/logout", ok, a.logged(named("user", a.logoutUser))},
		{post, "/admin/v1/user/unblock", ok, a.logged(named("user", a.unblockUser))},

		{get, "/admin/v1/sessions", ok, paged(a.listSessions, "user", "client")},
		{post, "/admin/v1/sessions/revoke", empty, a.logged(withBody(a.revokeSessions))},
		{del, "/admin/v1/session", ok, a.logged(named("id", a.revokeSession))},
		{post, "/admin/v1/session/why", ok, withBody(a.explainToken)},
	}
}

// logged adds the log line of a change, and calls Changed. The audit log has the details: the
// transaction that makes a change writes its audit record.
func (a *API) logged(h Handler) Handler {
	return func(r *http.Request) (any, error) {
		answer, err := h(r)
		if err == nil {
			a.cfg.Log.LogAttrs(r.Context(), slog.LevelInfo, "administration",
				slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("by", Actor(r)))
			if a.cfg.Changed != nil {
				a.cfg.Changed(r.Context())
			}
		}
		return answer, err
	}
}
