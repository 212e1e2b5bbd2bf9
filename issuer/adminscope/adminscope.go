// Package adminscope has the audience of the admin API, its scopes, and the rules about the clients that
// get tokens for it.
//
//	admin socket       needs no token: the server's user and root may do everything
//	admin.listen       needs a token for the audience keymill-admin, and each route one of its scopes
//
// The audience is built in. Its tokens are valid for 5 minutes and only the admin API accepts them. A client
// that gets such tokens is a program with a secret, and gets no others: see Check. Only the socket changes
// these clients, see CheckActor. So no token leads to a scope that its holder lacks.
package adminscope

import (
	"slices"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// Audience is the name of the audience of the admin API. No record has it.
const Audience = "keymill-admin"

// Lifetime is how long a token for the audience is valid.
const Lifetime = 5 * time.Minute

const (
	grant       = "client_credentials"
	actorPrefix = "client:"
)

// A Scope names a group of routes that one program may need without the others. The socket needs none.
//
// Reading and writing are apart, so that a program that watches cannot change. The keys have a scope for
// each act, because the acts differ in what they can break: rotating early can make verifiers refuse
// tokens for an hour, revoking ends a key for ever, and who imports a key can sign everything.
// users:write can set a password, and so log in as any user. Ending sessions is apart from it: a
// help desk logs users out and does not become them.
type Scope string

// All scopes.
const (
	StatusRead     Scope = "status:read"
	AuditRead      Scope = "audit:read"
	BackupRead     Scope = "backup:read" // the copy has every record of the store; secrets in it are sealed or hashed
	KeysRead       Scope = "keys:read"
	KeysRotate     Scope = "keys:rotate"
	KeysRevoke     Scope = "keys:revoke"
	KeysImport     Scope = "keys:import"
	VerifiersRead  Scope = "verifiers:read"
	VerifiersWrite Scope = "verifiers:write"
	AudiencesRead  Scope = "audiences:read"
	AudiencesWrite Scope = "audiences:write"
	ClientsRead    Scope = "clients:read"
	ClientsWrite   Scope = "clients:write"
	UsersRead      Scope = "users:read"
	UsersWrite     Scope = "users:write"
	SessionsRead   Scope = "sessions:read"
	SessionsWrite  Scope = "sessions:write"
	AppliedRead    Scope = "applied:read"
	AppliedWrite   Scope = "applied:write"
	StoreMigrate   Scope = "store:migrate"
	SettingsRead   Scope = "settings:read" // apart from status:read: a program that watches needs no paths and no networks
)

// SocketOnly reports whether the routes of a scope are served on the socket only, so that no token can
// have it.
func (s Scope) SocketOnly() bool { return s == KeysImport || s == StoreMigrate }

// Names returns the scopes that a token can have, sorted.
func Names() []string {
	names := []string{}
	for _, s := range []Scope{
		AppliedRead, AppliedWrite, AudiencesRead, AudiencesWrite, AuditRead, BackupRead, ClientsRead, ClientsWrite, KeysRead, KeysRevoke, KeysRotate,
		SessionsRead, SessionsWrite, SettingsRead, StatusRead, UsersRead, UsersWrite, VerifiersRead, VerifiersWrite,
	} {
		names = append(names, string(s))
	}
	return names
}

// IsOf reports whether a client names the audience.
func IsOf(c api.NewClient) bool {
	return slices.Contains(c.Audiences, Audience) || slices.Contains(c.Introspect, Audience)
}

// Possible reports whether a client keeps the rules of Check, except that its scopes may be those of
// another version of this program.
func Possible(c api.NewClient) bool { return !IsOf(c) || fault(c) == "" }

// Check refuses a client that names the audience and is anything else than a program with a secret that
// does nothing but administrate. With another audience a request without one would be ambiguous, and with an
// origin or another grant the token would be in a browser or a user's. Scopes that the client had before stay
// possible: a later version may have given them, and an administrator must still be able to disable the client.
func Check(before, c api.NewClient) error {
	if !IsOf(c) {
		return nil
	}
	if text := fault(c); text != "" {
		return refusal.New("invalid_request", "a client with audience %s %s", Audience, text)
	}
	for _, s := range c.Scopes {
		switch {
		case IsOf(before) && slices.Contains(before.Scopes, s):
		case Scope(s).SocketOnly():
			return refusal.New("invalid_request", "no client can have the scope %s: keys are imported, and stores are moved, on the server's machine only", s)
		case !slices.Contains(Names(), s):
			return refusal.New("invalid_request", "scope '%.100s' is not a scope of audience %s; choose from %s", refusal.Quoted(s), Audience, strings.Join(Names(), ", "))
		}
	}
	return nil
}

// fault says what a client that names the audience must be and is not, or returns "".
func fault(c api.NewClient) string {
	switch {
	case len(c.Introspect) > 0:
		return "introspects no tokens, and no other client introspects the tokens for it"
	case c.Public:
		return "must be confidential: it needs a secret"
	case !slices.Equal(c.Grants, []string{grant}):
		return "must have the grant " + grant + " and no other"
	case len(c.Audiences) > 1:
		return "must have no other audience; add another client for those"
	case len(c.Origins) > 0:
		return "must have no origin: no page of a browser may have its tokens"
	case len(c.Scopes) == 0:
		return "needs a scope; choose from " + strings.Join(Names(), ", ")
	}
	return ""
}

// Actor returns how the audit log names the holder of a token of the client. Administrators on the socket
// are named by their user, "uid:1000".
func Actor(client string) string { return actorPrefix + client }

// CheckActor refuses to let the holder of a token change a client that names the audience, as it was or as
// it would be: the holder could get the scopes of another client. by is the administrator, see Actor, and
// command what an administrator types instead.
func CheckActor(by, command string, clients ...api.NewClient) error {
	if !strings.HasPrefix(by, actorPrefix) || !slices.ContainsFunc(clients, IsOf) {
		return nil
	}
	return refusal.New("socket_only", "clients with audience %s are managed on the server's machine only: run keymill %s there", Audience, command)
}

// CheckPromotion refuses to make a client one of the admin API that was none, unless it gets another secret at the
// same time. Holders of clients:write may know the secret: they can give one to any other client, and can add one with
// a name that is planned.
func CheckPromotion(id string, before, after api.NewClient, newSecret bool) error {
	if newSecret || IsOf(before) || !IsOf(after) {
		return nil
	}
	return refusal.New("invalid_request",
		"client %s cannot get the audience %s with the secret that it has, because clients with the scope %s may know it: remove it and add it again, or put it with another secret_sha256",
		refusal.Quoted(id), Audience, ClientsWrite)
}
