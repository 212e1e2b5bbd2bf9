// Package api has the types of the admin API, each of them once: the server, the command line
// and every other client of the API use the same ones. The JSON tags are the names on the wire.
//
// Types that end in Change have pointers for fields: nil means that the field stays as it is.
// Types that end in Request, and New… and Import… types, are what a caller sends; Decode reads
// them. The others are answers. An answer shows every member, also an empty one, unless the
// field's tag says omitempty; an instant that is not known is null. Instants are in UTC and
// RFC 3339; durations are written as Go writes them ("15m0s").
//
//	path                         method  request                answer
//	/admin/v1/status                  GET     –                      Status
//	/admin/v1/activity                GET     –                      []ActivityMinute
//	/admin/v1/nodes                   GET     –                      Nodes
//	/admin/v1/settings                GET     –                      []Setting
//	/admin/v1/openapi.json            GET     –                      the OpenAPI document
//	/admin/v1/audit                   GET     –                      AuditRecords
//	/admin/v1/backup                  POST    –                      a copy of the store, see package backup
//	/admin/v1/migration               POST    MigrationRequest       Migration
//	/admin/v1/migration/records       POST    –                      a copy of the store, see package backup
//	/admin/v1/keys                    GET     –                      []Key
//	/admin/v1/keys/published          GET     –                      []PublishedKey
//	/admin/v1/keys/rotate             POST    RotateKeyRequest       Rotation
//	/admin/v1/keys/revoke             POST    RevokeKeyRequest       Revocation
//	/admin/v1/keys/import             POST    ImportKeyRequest       Key
//	/admin/v1/verifiers               GET     –                      []Verifier
//	                                  POST    NewVerifier            Verifier
//	/admin/v1/verifiers/observed      GET     –                      []ObservedVerifier
//	/admin/v1/verifier                GET     –                      Verifier
//	                                  DELETE  –                      –
//	/admin/v1/audiences               GET     –                      []Audience
//	                                  POST    Audience               Audience
//	/admin/v1/audience                GET     –                      Audience
//	                                  PUT     AudienceState          Audience
//	                                  PATCH   AudienceChange         Audience
//	                                  DELETE  –                      –
//	/admin/v1/clients                 GET     –                      []Client
//	                                  POST    NewClient              Client
//	/admin/v1/client                  GET     –                      Client
//	                                  PUT     ClientState            Client
//	                                  PATCH   ClientChange           Client
//	                                  DELETE  –                      –
//	/admin/v1/client/secret           POST    RotateSecretRequest    Client
//	/admin/v1/users                   GET     –                      []User
//	                                  POST    NewUser                User
//	/admin/v1/users/import            POST    ImportUsersRequest     ImportResults
//	/admin/v1/user                    GET     –                      UserDetails
//	                                  PUT     UserState              User
//	                                  PATCH   UserChange             User
//	                                  DELETE  –                      –
//	/admin/v1/user/password           POST    SetPasswordRequest     User
//	/admin/v1/user/logout             POST    –                      User
//	/admin/v1/user/unblock            POST    –                      UserDetails
//	/admin/v1/sessions                GET     –                      SessionPage
//	/admin/v1/sessions/revoke         POST    RevokeSessionsRequest  –
//	/admin/v1/sessions/rotate-secret  POST    –                    RefreshSecret
//	/admin/v1/session                 DELETE  –                      Session
//	/admin/v1/session/why             POST    ExplainRequest         Explanation
//	/admin/v1/applied                 GET     –                      []Applied
//	                                  PUT     –                      Applied
//	                                  DELETE  –                      –
//
// DELETE /admin/v1/client with the parameter unused=true refuses with in_use if users log in through
// the client or if it has live sessions. A parameter that a path does not have is refused, and so is
// any other value of unused.
package api

import "time"

// A Status says how a server is doing.
type Status struct {
	Version     string     `json:"version"`      // of the program
	Issuer      string     `json:"issuer"`       // its URL, the claim iss
	Ready       bool       `json:"ready"`        // true if there are no issues
	Issues      []string   `json:"issues"`       // why the server is not ready, in words
	Warnings    []Warning  `json:"warnings"`     // what is wrong although the server may be ready
	ClockFrozen bool       `json:"clock_frozen"` // the wall clock has jumped and is not followed
	Now         *time.Time `json:"now"`          // the clock of the key rings
	StoreBytes  int64      `json:"store_bytes"`  // size of the store; 0 if it is not known
	RotateEvery string     `json:"rotate_every"` // the setting keys.rotate_every, "720h0m0s"
	Propagation string     `json:"propagation"`  // the setting keys.propagation
	MaxAge      string     `json:"max_age"`      // the setting jwks.max_age
}

// A Warning is a fault that does not make the server unready: the key set is served, and tokens are
// signed.
type Warning struct {
	Check  string `json:"check"`  // what was checked: "login endpoint", "audit"
	Detail string `json:"detail"` // what is wrong, and the command that fixes it if there is one
}
