package api

import "time"

// Nodes are the servers of a store that several servers share, as the one that answers sees them.
type Nodes struct {
	Shared bool    `json:"shared"` // false if the server has its store alone; the lists are empty then
	Node   string  `json:"node"`   // id of the server that answers; "" if it has its store alone
	Nodes  []Node  `json:"nodes"`  // by id, also those of the last day that are not live
	Leases []Lease `json:"leases"` // by name
}

// A Node is a server of a store that several servers share.
type Node struct {
	ID          string    `json:"id"`
	Host        string    `json:"host"`         // the name of its machine
	Version     string    `json:"version"`      // of the program
	Live        bool      `json:"live"`         // its heartbeat came within the last three intervals
	Started     time.Time `json:"started"`      // by its own clock
	Beat        time.Time `json:"beat"`         // when it wrote its last heartbeat, by its own clock
	ClockOffset string    `json:"clock_offset"` // by how much its clock is ahead of that of the server that answers, "-1.5s"; "" if that is not known
	Keys        uint64    `json:"keys"`         // version of the signing keys that it has read
	Generation  int       `json:"generation"`   // of the data key that it has read
	Algorithms  []string  `json:"algorithms"`   // that it signs with
}

// A Lease lets one of several servers do a job that only one of them should do.
type Lease struct {
	Name  string    `json:"name"`
	Node  string    `json:"node"`  // id of the server that holds it
	Until time.Time `json:"until"` // when another one can take it if it is not renewed, by the clock of its holder
}
