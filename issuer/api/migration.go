package api

import "time"

// A MigrationRequest is one step of a migration of the store, as keymill migrate asks for it.
type MigrationRequest struct {
	Step string `json:"step"` // look, begin, renew, finish or free

	Run  string `json:"run,omitempty"`  // random number of the run
	From string `json:"from,omitempty"` // address of the store, for begin
	To   string `json:"to,omitempty"`   // address of the target, for begin
	Over uint64 `json:"over,omitempty"` // beat of a run that has ended, for begin
}

// A Migration is what the server says of its store after a step.
type Migration struct {
	Database string    `json:"database_id"`
	Schema   int       `json:"schema"`
	Created  time.Time `json:"created"`
	Trial    bool      `json:"trial,omitempty"`
	Bytes    int64     `json:"store_bytes"`

	State string     `json:"state,omitempty"` // moving or moved; empty if the store is not moved
	Run   string     `json:"run,omitempty"`   // of the migration that the state is about
	From  string     `json:"from,omitempty"`  // address of the store
	To    string     `json:"to,omitempty"`    // address of the target
	Since *time.Time `json:"since,omitempty"` // of the state
	Beat  uint64     `json:"beat,omitempty"`  // grows while the run is at work
}
