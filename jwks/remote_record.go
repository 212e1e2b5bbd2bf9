package jwks

import (
	"fmt"
	"time"
)

// longestPause is the longest time between two attempts during an outage.
const longestPause = time.Minute

// A record is what a Remote knows after an attempt. A record never changes, it is replaced. So
// every decision is a function of the record and the time:
//
//	sent        5/8 to 3/4         lifetime                      lifetime + MaxStale
//	├── fresh ──────┼─────────────────┤── stale, but used ───────────┤── refused ──▶
//	             refresh in        callers wait for one attempt,  ErrUnavailable
//	             the background    at most a second, and not at   at once
//	                               all if the last one failed
//
// After an attempt that succeeds the record is at the left end again.
type record struct {
	// About the last attempt that succeeded; set is nil if none did.
	set      *Set
	sent     time.Time     // when the request for the set was sent
	age      time.Duration // time that the set had spent in caches by then
	lifetime time.Duration // how long it is fresh, from sent on

	// About the last attempt; ended is zero before the first.
	began, ended time.Time
	err          error  // nil if it succeeded
	failures     int    // failed attempts since the last success
	location     string // of the key set; "" if it is not known yet
}

// succeed returns the record after an attempt that succeeded.
func (r record) succeed(result fetchResult, began, ended time.Time) record {
	if result.set != nil {
		r.set = result.set
	}
	r.sent, r.age, r.lifetime = result.sent, result.age, result.lifetime
	r.began, r.ended, r.err, r.failures = began, ended, nil, 0
	return r
}

// fail returns the record after an attempt that failed.
func (r record) fail(err error, began, ended time.Time) record {
	r.began, r.ended, r.err = began, ended, err
	r.failures++
	return r
}

// elapsed measures with the monotonic clock and with the wall clock, and returns the longer
// time. The monotonic clock stops while a machine sleeps, and a wall clock that is set back
// would make a set look newer than it is. A wall clock that is set forward only causes a fetch.
func elapsed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// fresh reports whether no newer set is due. At lifetime itself it is due.
func (r *record) fresh(now time.Time) bool {
	return r.set != nil && elapsed(r.sent, now) < r.lifetime
}

// usable reports whether the set may be used if no newer one can be fetched.
func (r *record) usable(now time.Time, maxStale time.Duration) bool {
	return r.set != nil && elapsed(r.sent, now) < r.lifetime+maxStale
}

// failing reports whether an attempt has failed since the last fresh set. Then a caller without
// a usable set does not wait for the next attempt.
func (r *record) failing() bool {
	return r.err != nil && !r.fresh(r.ended)
}

// cooldown returns the least time between two attempts. It is at most half of the lifetime, so
// that there is time for a refresh before the set is stale, whatever max-age is.
func (r *record) cooldown(configured time.Duration) time.Duration {
	if r.set == nil {
		return configured
	}
	return min(configured, r.lifetime/2)
}

// mayBegin reports whether the cooldown is over. After a success it counts from the beginning
// of the attempt, so that it is over before the set is stale. After a failure it counts from
// the end, since a timeout may be longer than the cooldown.
func (r *record) mayBegin(now time.Time, configured time.Duration) bool {
	last := r.began
	if r.err != nil {
		last = r.ended
	}
	return r.ended.IsZero() || elapsed(last, now) >= r.cooldown(configured)
}

// pause returns how long the loop waits before the next attempt if no caller requests one.
// jitter, in [0, 1), spreads the attempts of many services that started at the same time.
//
// After failures the pause is the cooldown, twice the cooldown, and so on up to a minute. But
// there is always an attempt when the set becomes stale, since callers wait from then on.
func (r *record) pause(now time.Time, configured time.Duration, jitter float64) time.Duration {
	spread := func(d time.Duration) time.Duration { return time.Duration(jitter * float64(d) / 8) }
	if r.err == nil {
		return r.lifetime*3/4 - spread(r.lifetime) - elapsed(r.sent, now)
	}
	cooldown := r.cooldown(configured)
	wait := cooldown
	for i := 1; i < r.failures && wait < longestPause; i++ {
		wait = min(2*wait, longestPause)
	}
	wait += spread(wait)
	if left := r.lifetime - elapsed(r.sent, now); r.set != nil && left > 0 {
		wait = min(wait, left)
	}
	return max(wait, cooldown)
}

// unavailable returns the error that says why there is no set to use.
func (r *record) unavailable(now time.Time) error {
	switch {
	case r.set != nil && r.err != nil:
		return fmt.Errorf("%w: the last is %v old: %w", ErrUnavailable, r.total(now).Round(time.Second), r.err)
	case r.set != nil:
		return fmt.Errorf("%w: the last is %v old", ErrUnavailable, r.total(now).Round(time.Second))
	case r.err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, r.err)
	}
	return fmt.Errorf("%w: none was fetched yet", ErrUnavailable)
}

// total returns the age of the set, including its time in caches.
func (r *record) total(now time.Time) time.Duration {
	return r.age + elapsed(r.sent, now)
}
