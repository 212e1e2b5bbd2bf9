// Package admin has the handlers of the admin API, /admin/v1/…. It is served on a Unix
// socket, to the user of the server and to root only, see ConnContext, and on admin.listen, to holders of
// access tokens, see package access. The table in package
// api lists all paths with the types of their requests and answers.
//
// Routes is the contract: every route with its scope, its parameters, the types of its request and
// answer, and the codes of its refusals. A handler reads the request strictly, calls issuer or keystore,
// and returns the answer or an error. Package endpoint routes the requests, marshals the answers, and turns errors into
// answers and log lines, as it does for the public API.
package admin

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/applied"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/verifiers"
	"keymill/keystore"
)

// Config is what an API needs. Issuer, Keys, Passwords, Issues and Log must be set.
type Config struct {
	Issuer    *issuer.Issuer
	Keys      *keystore.Rings
	Passwords *limit.PasswordLimiter // of the login endpoints
	Verifiers *verifiers.Registry    // nil if no verifier can be pinned
	Applied   *applied.Marks         // nil if no marks of keymill apply are kept

	Issues   func() []string                     // why the server is not ready; never nil
	Warnings func(context.Context) []api.Warning // what else is wrong; may be nil
	Changed  func(context.Context)               // called after each change; may be nil

	// LoginsOf returns the login endpoints where users log in through a client; nil if there are none.
	LoginsOf   func(client string) []string
	StoreBytes func() int64                // size of the store; nil if it is not known
	Version    string                      // of the program
	Settings   func() []api.Setting        // that the server uses; may be nil
	Activity   func() []api.ActivityMinute // of the last hour; may be nil

	// Nodes lists the servers of the store; nil if this one has it alone.
	Nodes func(context.Context) (api.Nodes, error)

	// Backup writes a copy of the store to w, for the administrator by. If it returns an error after it
	// has written something, the copy is not whole.
	Backup func(ctx context.Context, w io.Writer, by string) error

	// Migrate takes one step of a migration of the store, for the administrator by.
	Migrate func(ctx context.Context, q api.MigrationRequest, by string) (api.Migration, error)
	// Records writes the records of a store that is being moved to w. Its errors are those of Backup.
	Records func(ctx context.Context, w io.Writer) error
	Log     *slog.Logger
}

// An API has the handlers.
type API struct {
	cfg Config
}

// New returns an API.
func New(cfg Config) *API { return &API{cfg} }

// Routes returns all routes, each for those who may use it. GET stands for HEAD as well.
func (a *API) Routes() []Route {
	routes := a.routes()
	for n, route := range routes {
		routes[n].Handler = permit(route.Scope, conditional(route))
	}
	return routes
}

func (a *API) routes() []Route {
	const get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	const ok, created, empty = http.StatusOK, http.StatusCreated, http.StatusNoContent
	return []Route{
		{get, "/admin/v1/status", ok, statusRead, "Show how the server is doing", bare(a.status)},
		{get, "/admin/v1/activity", ok, statusRead, "Count tokens and refusals of each of the last 60 minutes", bare(a.activity)},
		{get, "/admin/v1/nodes", ok, statusRead, "List the servers of the store", bare(a.nodes)},
		{get, "/admin/v1/settings", ok, settingsRead, "List the settings of the server with their sources", bare(a.settings)},
		{get, "/admin/v1/openapi.json", ok, statusRead, "Show this document", bare(a.openAPI)},
		{get, "/admin/v1/audit", ok, auditRead, "Read the audit log", selected(a.audit, auditParameters()...)},
		{post, "/admin/v1/backup", ok, backupRead, "Copy the store", bare(a.backup)},
		{post, "/admin/v1/migration", ok, storeMigrate, "Take a step of a migration of the store", withBody(a.migrate).refuses("in_use", "socket_only")},
		{post, "/admin/v1/migration/records", ok, storeMigrate, "Read the records of a store that is being moved", bare(a.migrationRecords).refuses("in_use", "socket_only")},

		{get, "/admin/v1/keys", ok, keysRead, "List the signing keys", bare(a.listKeys)},
		{get, "/admin/v1/keys/published", ok, keysRead, "List the public keys of the key set", bare(a.publishedKeys)},
		{post, "/admin/v1/keys/rotate", ok, keysRotate, "Let the next key of an algorithm sign", a.logged(withBody(a.rotateKey)).refuses("no_reserve", "not_found", "not_ready", "not_served")},
		{post, "/admin/v1/keys/revoke", ok, keysRevoke, "Remove a key from the key set at once", a.logged(withBody(a.revokeKey)).refuses("no_reserve", "not_found")},
		{post, "/admin/v1/keys/import", ok, keysImport, "Import a key of another system", a.logged(withBody(a.importKey)).refuses("already_exists", "not_found", "socket_only")},

		{get, "/admin/v1/verifiers", ok, verifiersRead, "List the pinned verifiers by name", paged(a.listVerifiers).refuses("not_found")},
		{post, "/admin/v1/verifiers", created, verifiersWrite, "Pin a verifier", triable(a.logged(withBody(a.addVerifier)).refuses("already_exists", "not_found"))},
		{get, "/admin/v1/verifiers/observed", ok, verifiersRead, "List the observed verifiers, latest first", bare(a.observedVerifiers).refuses("not_found")},
		{get, "/admin/v1/verifier", ok, verifiersRead, "Show a pinned verifier", named(verifierName, a.showVerifier).tagged()},
		{del, "/admin/v1/verifier", empty, verifiersWrite, "Forget a pinned verifier", triable(a.logged(named(verifierName, a.removeVerifier)))},

		{get, "/admin/v1/audiences", ok, audiencesRead, "List the audiences by name", a.audiences()},
		{post, "/admin/v1/audiences", created, audiencesWrite, "Add an audience", a.logged(withBody(a.addAudience)).refuses("already_exists")},
		{get, "/admin/v1/audience", ok, audiencesRead, "Show an audience", named(audienceName, a.showAudience).tagged()},
		{put, "/admin/v1/audience", ok, audiencesWrite, "Add an audience or replace it", triable(a.logged(replacing(audienceName, a.putAudience)).refuses("built_in"))},
		{patch, "/admin/v1/audience", ok, audiencesWrite, "Change an audience", a.logged(namedWithBody(audienceName, a.setAudience)).refuses("built_in").conditional()},
		{del, "/admin/v1/audience", empty, audiencesWrite, "Remove an audience", triable(a.logged(named(audienceName, a.removeAudience)).refuses("in_use", "built_in").conditional())},

		{get, "/admin/v1/clients", ok, clientsRead, "List the clients by id", a.clients()},
		{post, "/admin/v1/clients", created, clientsWrite, "Add a client", a.logged(withBody(a.addClient)).refuses("already_exists", "not_found", "socket_only")},
		{get, "/admin/v1/client", ok, clientsRead, "Show a client", named(clientID, a.showClient).tagged()},
		{put, "/admin/v1/client", ok, clientsWrite, "Add a client or replace it", triable(a.logged(replacing(clientID, a.putClient)).refuses("socket_only"))},
		{patch, "/admin/v1/client", ok, clientsWrite, "Change a client", a.logged(namedWithBody(clientID, a.setClient)).refuses("socket_only").conditional()},
		{del, "/admin/v1/client", empty, clientsWrite, "Remove a client and end its sessions", triable(a.logged(named(clientID, a.removeClient, unusedOnly)).refuses("in_use", "socket_only").conditional())},
		{post, "/admin/v1/client/secret", ok, clientsWrite, "Give a client a new secret", a.logged(namedWithBody(clientID, a.rotateSecret)).refuses("socket_only")},

		{get, "/admin/v1/users", ok, usersRead, "List the users by id", a.users()},
		{post, "/admin/v1/users", created, usersWrite, "Add a user", a.logged(withBody(a.addUser)).refuses("already_exists")},
		{post, "/admin/v1/users/import", ok, usersWrite, "Import users of another system", a.logged(withBody(a.importUsers))},
		{get, "/admin/v1/user", ok, usersRead, "Show a user", named(userName, a.showUser).tagged()},
		{put, "/admin/v1/user", ok, usersWrite, "Add a user or replace it", a.logged(replacing(userName, a.putUser))},
		{patch, "/admin/v1/user", ok, usersWrite, "Change a user", triable(a.logged(namedWithBody(userName, a.setUser)).refuses("already_exists").conditional())},
		{del, "/admin/v1/user", empty, usersWrite, "Remove a user and end the user's sessions", a.logged(named(userName, a.removeUser)).conditional()},
		{post, "/admin/v1/user/password", ok, usersWrite, "Set the password of a user and end the user's sessions", a.logged(namedWithBody(userName, a.setPassword))},
		{post, "/admin/v1/user/logout", ok, sessionsWrite, "End all sessions of a user", a.logged(named(userName, a.logoutUser))},
		{post, "/admin/v1/user/unblock", ok, usersWrite, "Forget the failed logins of a user", a.logged(named(userName, a.unblockUser))},

		{get, "/admin/v1/sessions", ok, sessionsRead, "List sessions, newest first", paged(a.listSessions, ofUser, ofClient).refuses("not_found")},
		{post, "/admin/v1/sessions/revoke", empty, sessionsWrite, "End all sessions of a client, or of the store", a.logged(withBody(a.revokeSessions)).refuses("not_found")},
		{post, "/admin/v1/sessions/rotate-secret", ok, keysRotate, "Publish another secret of refresh tokens", a.logged(bare(a.rotateRefreshSecret)).refuses("in_use")},
		{del, "/admin/v1/session", ok, sessionsWrite, "End a session", a.logged(named(sessionID, a.revokeSession))},
		{post, "/admin/v1/session/why", ok, sessionsRead, "Explain what a refresh token would be answered", withBody(a.explainToken)},

		{get, "/admin/v1/applied", ok, appliedRead, "List what keymill apply has applied, by kind and name", paged(a.listApplied).refuses("not_found")},
		{put, "/admin/v1/applied", ok, appliedWrite, "Remember that an entry is applied", triable(a.logged(named(appliedName, a.putApplied, appliedKind)))},
		{del, "/admin/v1/applied", empty, appliedWrite, "Forget that an entry was applied", triable(a.logged(named(appliedName, a.removeApplied, appliedKind)))},
	}
}

// logged adds the log line of a change, and calls Changed. The audit log has the details: the
// transaction that makes a change writes its audit record.
func (a *API) logged(o Operation) Operation {
	h := o.Handler
	o.Handler = func(r *http.Request) (any, error) {
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
	return o
}
