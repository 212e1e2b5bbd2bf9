package jwks

import (
	"fmt"
	"time"
)

// longestPause between two attempts of an outage.
const longestPause = time.Minute

// A record is what a Remote knows after an attempt. It is never changed, only replaced,
// so that every question about it is a function of it and of the time:
//
//	asked for   5/8 to 3/4         lifetime                      lifetime + MaxStale
//	├── fresh ──────┼─────────────────┤── stale, but used ───────────┤── refused ──▶
//	             refresh, in       callers wait for one attempt,  ErrUnavailable,
//	             the background    a second at most, and not at   at once
//	                               all if the last one failed
//
// An attempt that succeeds leads back to the left end, from wherever.
type record struct {
	// Of the last attempt that succeeded; set is nil if none has.
	set      *Set
	sent     time.Time     // when the set was asked for
	age      time.Duration // what it had spent in caches by then
	lifetime time.Duration // how long it is fresh, from sent on

	// Of the last attempt; ended is zero before the first.
	began, ended time.Time
	err          error  // nil if it succeeded
	failures     int    // in a row, to the last
	location     string // of the key set, as far as it is known
}

// succeed and fail return the record after one more attempt.
func (r record) succeed(got fetched, began, ended time.Time) record {
	if got.set != nil {
		r.set = got.set
	}
	r.sent, r.age, r.lifetime = got.sent, got.age, got.lifetime
	r.began, r.ended, r.err, r.failures = began, ended, nil, 0
	return r
}

func (r record) fail(err error, began, ended time.Time) record {
	r.began, r.ended, r.err = began, ended, err
	r.failures++
	return r
}

// elapsed takes the word of the clock that says more. The monotonic one stands still
// while a machine sleeps, and a wall clock that is set back would make a set young again.
// One that is set forward costs a fetch.
func elapsed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// fresh and usable bound how old a set may be. Bounds are half-open.
func (r *record) fresh(now time.Time) bool {
	return r.set != nil && elapsed(r.sent, now) < r.lifetime
}

func (r *record) usable(now time.Time, maxStale time.Duration) bool {
	return r.set != nil && elapsed(r.sent, now) < r.lifetime+maxStale
}

// failing says that without a set that may be used there is no use in waiting for the
// next attempt either: one has failed since there was a fresh set.
func (r *record) failing() bool {
	return r.err != nil && !r.fresh(r.ended)
}

// cooldown is the least time between two attempts. Half a lifetime caps it, so that
// whatever max-age says there is room for a refresh before it is over.
func (r *record) cooldown(configured time.Duration) time.Duration {
	if r.set == nil {
		return configured
	}
	return min(configured, r.lifetime/2)
}

// mayBegin says whether the cooldown is over. It runs from the beginning of an attempt
// that succeeded, so that it is over when the set is stale; and from the end of one that
// failed, since a timeout may last longer than the cooldown.
func (r *record) mayBegin(now time.Time, configured time.Duration) bool {
	last := r.began
	if r.err != nil {
		last = r.ended
	}
	return r.ended.IsZero() || elapsed(last, now) >= r.cooldown(configured)
}

// pause is how long the loop waits until it tries again of its own accord. jitter, in
// [0, 1), keeps a fleet that was started in one instant from coming back in one.
//
// After a failure that is the cooldown, twice that, and so on up to a minute; but there
// is an attempt when the set becomes stale, since that is what callers wait for.
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

// unavailable says why there is no set to trust.
func (r *record) unavailable(now time.Time) error {
	switch {
	case r.set != nil && r.err != nil:
		return fmt.Errorf("%w: the last is %v old: %w", ErrUnavailable, r.total(now).Round(time.Second), r.err)
	case r.set != nil:
		return fmt.Errorf("%w: the last is %v old", ErrUnavailable, r.total(now).Round(time.Second))
	case r.err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, r.err)
	}
	return fmt.Errorf("%w: none has come yet", ErrUnavailable)
}

// total is how old the set is, the time in caches included.
func (r *record) total(now time.Time) time.Duration {
	return r.age + elapsed(r.sent, now)
}
