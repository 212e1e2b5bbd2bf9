package admin

import "keymill/issuer/adminscope"

// A Scope is what a caller needs who is not on the socket, see package adminscope.
type Scope = adminscope.Scope

// The scopes of the routes.
const (
	statusRead     = adminscope.StatusRead
	auditRead      = adminscope.AuditRead
	backupRead     = adminscope.BackupRead
	keysRead       = adminscope.KeysRead
	keysRotate     = adminscope.KeysRotate
	keysRevoke     = adminscope.KeysRevoke
	keysImport     = adminscope.KeysImport
	verifiersRead  = adminscope.VerifiersRead
	verifiersWrite = adminscope.VerifiersWrite
	audiencesRead  = adminscope.AudiencesRead
	audiencesWrite = adminscope.AudiencesWrite
	clientsRead    = adminscope.ClientsRead
	clientsWrite   = adminscope.ClientsWrite
	usersRead      = adminscope.UsersRead
	usersWrite     = adminscope.UsersWrite
	sessionsRead   = adminscope.SessionsRead
	sessionsWrite  = adminscope.SessionsWrite
	appliedRead    = adminscope.AppliedRead
	appliedWrite   = adminscope.AppliedWrite
	settingsRead   = adminscope.SettingsRead
	storeMigrate   = adminscope.StoreMigrate
)
