package jwks

import "time"

// A RemoteStatus says where a Remote stands, for people, logs and metrics.
type RemoteStatus struct {
	Location    string        // of the key set; "" before discovery
	Keys        []Key         // that are trusted now; none if there is no set to trust
	Skipped     Skipped       // keys of the document that were left out
	Fetched     time.Time     // when the set was last asked for with success; zero if never
	Age         time.Duration // how old the set is: since Fetched, and what it spent in caches before (RFC 9111, section 5.1)
	FreshUntil  time.Time     // when a newer set is due
	UsableUntil time.Time     // when the set is no longer used, if no newer one can be fetched
	Fetches     int           // attempts so far
	Err         error         // of the last attempt; nil if it succeeded
}

// Status reports without fetching anything.
func (r *Remote) Status() RemoteStatus {
	r.mu.Lock()
	fetches := r.fetches
	r.mu.Unlock()
	now, last := time.Now(), r.record.Load()
	out := RemoteStatus{Location: last.location, Fetches: fetches, Err: last.err}
	if last.set == nil {
		return out
	}
	// What is left by elapsed, not sent plus the lifetime: a clock that was set tells
	// readers the truth in its own time.
	left := last.lifetime - elapsed(last.sent, now)
	out.Fetched, out.Age = last.sent, last.total(now)
	out.FreshUntil, out.UsableUntil = now.Add(left), now.Add(left+r.config.MaxStale)
	if last.usable(now, r.config.MaxStale) {
		out.Keys, out.Skipped = last.set.Keys(), last.set.Skipped()
	}
	return out
}
