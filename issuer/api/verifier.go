package api

import "time"

// A NewVerifier names a service whose fetches of the key set are followed from then on.
type NewVerifier struct {
	Name string `json:"name"` // required: 1 to 63 of a-z, 0-9, "-" and "_"
}

// A Verifier is a pinned verifier: a service that fetches the key set under its own name.
type Verifier struct {
	Name       string    `json:"name"`
	Added      time.Time `json:"added"`
	Credential string    `json:"credential"` // NAME.TAG, for the header Keymill-Verifier
	URL        string    `json:"url"`        // of the key set, with the credential as the parameter verifier

	Last        *time.Time `json:"last"`           // when it was last served; null if never
	Usual       string     `json:"usual_interval"` // between its fetches, "5m0s"; "" while it is not known
	Served      []string   `json:"served"`         // the kids of the set that it was served last
	Missing     []string   `json:"missing"`        // kids that are published now and were not in that set
	Waited      bool       `json:"waited"`         // a rotation by hand waits for it: it came lately and misses the spare
	WaitedUntil *time.Time `json:"waited_until"`   // when that ends if it does not come and the server goes on; null unless Waited
}

// An ObservedVerifier is an address that fetched the key set without a name. Observations are kept in
// memory only. They inform, and nothing waits for them.
type ObservedVerifier struct {
	Address string    `json:"address"`    // of the caller; the first 64 bits of an IPv6 address
	Through string    `json:"through"`    // the proxy that the caller came through; "" for none
	Agent   string    `json:"user_agent"` // its first 100 bytes
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Fetches uint64    `json:"fetches"`
	Missing []string  `json:"missing"` // kids that are published now and were not in the set that it was served last
}

// A Reach says which pinned verifiers were served a key that is published.
type Reach struct {
	Pinned int          `json:"pinned"` // pinned verifiers
	Served int          `json:"served"` // those that were served a set with the key
	Behind []BehindItem `json:"behind"` // the others, by name
}

// A BehindItem is a pinned verifier that was not served a key.
type BehindItem struct {
	Name        string     `json:"name"`
	Last        *time.Time `json:"last"`         // when it was last served a set; null if never
	Waited      bool       `json:"waited"`       // a rotation by hand waits for it
	WaitedUntil *time.Time `json:"waited_until"` // when that ends if it does not come and the server goes on; null unless Waited
}

// A Holder is a pinned verifier that may still hold a key: the key was in the set that it was served last.
type Holder struct {
	Name string    `json:"name"`
	Last time.Time `json:"last"`
}
