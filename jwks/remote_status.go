package jwks

import "time"

// A RemoteStatus describes a Remote at one moment, for people, logs and metrics.
type RemoteStatus struct {
	Location    string        // address of the key set, without the value of VerifierParameter; "" before discovery
	Keys        []Key         // the keys that are used now; none if there is no set to use
	Skipped     Skipped       // keys of the document that were left out
	Fetched     time.Time     // when the last successful request was sent; zero if there was none
	Age         time.Duration // age of the set: time since Fetched, and time in caches before (RFC 9111, section 5.1)
	FreshUntil  time.Time     // when a newer set is due
	UsableUntil time.Time     // when the set is no longer used, if no newer one can be fetched
	Fetches     int           // attempts so far
	Err         error         // of the last attempt; nil if it succeeded
}

// Status returns the current status. It does not fetch.
func (r *Remote) Status() RemoteStatus {
	r.mu.Lock()
	fetches := r.fetches
	r.mu.Unlock()
	now, last := time.Now(), r.record.Load()
	out := RemoteStatus{Location: shown(last.location), Fetches: fetches, Err: last.err}
	if last.set == nil {
		return out
	}
	// The remaining time is counted from now and not from sent. If the wall clock was set in
	// the meantime, both ends are right for a reader of the new time.
	left := last.lifetime - elapsed(last.sent, now)
	out.Fetched, out.Age = last.sent, last.total(now)
	out.FreshUntil, out.UsableUntil = now.Add(left), now.Add(left+r.config.MaxStale)
	if last.usable(now, r.config.MaxStale) {
		out.Keys, out.Skipped = last.set.Keys(), last.set.Skipped()
	}
	return out
}
