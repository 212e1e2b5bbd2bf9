package admin

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
	statusRead     Scope = "status:read"
	auditRead      Scope = "audit:read"
	backupRead     Scope = "backup:read" // the copy has every record of the store; secrets in it are sealed or hashed
	keysRead       Scope = "keys:read"
	keysRotate     Scope = "keys:rotate"
	keysRevoke     Scope = "keys:revoke"
	keysImport     Scope = "keys:import"
	verifiersRead  Scope = "verifiers:read"
	verifiersWrite Scope = "verifiers:write"
	audiencesRead  Scope = "audiences:read"
	audiencesWrite Scope = "audiences:write"
	clientsRead    Scope = "clients:read"
	clientsWrite   Scope = "clients:write"
	usersRead      Scope = "users:read"
	usersWrite     Scope = "users:write"
	sessionsRead   Scope = "sessions:read"
	sessionsWrite  Scope = "sessions:write"
)

// SocketOnly reports whether the routes of a scope are served on the socket only, so that no token can
// have it.
func (s Scope) SocketOnly() bool { return s == keysImport }
