package admin

import "keymill/issuer/applied"

// A Parameter is a parameter of a query.
type Parameter struct {
	Name     string
	Doc      string
	Required bool
	Format   string   // "" for text, "number", or "date-time"
	Values   []string // if it has only these

	Lowest, Highest, Default uint64 // of a number; Highest is also the longest text in bytes, 0 for any
}

// A page of a list.
var (
	pageAfter = Parameter{Name: "after", Doc: "the list continues after this entry: what the list is ordered by of the last entry of the page before, or its member next"}
	pageLimit = Parameter{Name: "limit", Doc: "how many entries the page has at most", Format: "number", Lowest: 1, Highest: 1000, Default: 100}
)

// What a route is about.
var (
	audienceName = Parameter{Name: "name", Required: true, Highest: 200, Doc: "the audience"}
	verifierName = Parameter{Name: "name", Required: true, Highest: 63, Doc: "the verifier"}
	clientID     = Parameter{Name: "id", Required: true, Highest: 100, Doc: "the client"}
	userName     = Parameter{Name: "user", Required: true, Doc: "the name or the id of the user; id: before it says that it is an id"}
	sessionID    = Parameter{Name: "id", Required: true, Doc: "the session"}
)

// What keymill apply marks.
var (
	appliedName = Parameter{Name: "name", Required: true, Highest: 200, Doc: "the name of the audience or verifier, or the id of the client"}
	appliedKind = Parameter{Name: "kind", Required: true, Doc: "what it is", Values: applied.Kinds()}
)

// What selects.
var (
	unusedOnly = Parameter{Name: "unused", Doc: "refuse if users log in through the client, or if it has live sessions", Values: []string{"true"}}
	ofAudience = Parameter{Name: "audience", Doc: "only clients that get tokens for this audience or introspect them", Highest: 200}
	ofGrant    = Parameter{Name: "grant", Doc: "only clients with this grant"}
	ofDisabled = Parameter{Name: "disabled", Doc: "only those that are disabled, or only those that are not", Values: []string{"true", "false"}}
	ofName     = Parameter{Name: "name", Doc: "only users whose names begin with this text"}
	ofUser     = Parameter{Name: "user", Doc: "only sessions of this user: a name or an id"}
	ofClient   = Parameter{Name: "client", Doc: "only sessions through this client"}
)

// auditParameters are those that api.ParseAuditQuery reads.
func auditParameters() []Parameter {
	return []Parameter{
		{Name: "limit", Doc: "how many records the page has at most", Format: "number", Lowest: 1, Highest: 1000, Default: 50},
		{Name: "after", Doc: "the oldest records after this place: 0, or the member next of the page before"},
		{Name: "before", Doc: "the newest records before this place: the member next of the page before. Not together with after"},
		{Name: "since", Doc: "only records of this time or later", Format: "date-time"},
		{Name: "until", Doc: "only records before this time", Format: "date-time"},
		{Name: "user", Doc: "only records about this user: a name or an id"},
		{Name: "client", Doc: "only records about this client"},
		{Name: "target", Doc: "only records whose target is exactly this: the id or the name of what changed"},
		{Name: "by", Doc: "only records of this administrator or program, such as uid:0, client:deployer or system"},
		{Name: "action", Doc: "only this action, such as client.add, or all that begin with this word and a dot, such as client"},
	}
}
