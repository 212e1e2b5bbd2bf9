package api

import "time"

// An Applied is a mark of keymill apply: it has made this entry, or taken it over, and may remove it if its
// files no longer name it.
type Applied struct {
	Kind string    `json:"kind"` // "audience", "client" or "verifier"
	Name string    `json:"name"` // of the audience or verifier, or the id of the client
	At   time.Time `json:"at"`
	By   string    `json:"by"` // who applied it first, as in the audit log
}
