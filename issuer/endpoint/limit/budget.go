package limit

import (
	"context"
	"slices"
	"time"
)

// A budget allows an exact number of failures in a window. An attempt reserves one of the
// remaining failures before the password is checked, and returns it unless the password was
// wrong. So parallel attempts cannot exceed the limit, even if all of them fail. An attempt
// that finds all remaining failures reserved is not refused. It waits for the results of
// the others, because a right password returns its failure.
//
// Times are durations since the limiter was made, so that a change of the wall clock does
// not move them. The limiter's mutex owns all fields.
type budget struct {
	failures []time.Duration // the newest, oldest first, at most limits.maxKept
	running  int             // attempts that hold a failure
	waiting  []*waiter       // in order of arrival
	queued   int             // attempts that wait for any reason; counted for addresses, and for accounts at known ones
	delayed  int             // those of queued that wait out a delay; counted for accounts at an address only
}

// limits says what a budget allows.
type limits struct {
	maxFailures int // in a window
	maxRunning  int // attempts at the same time
	maxKept     int // newest failures that are kept
}

// A waiter is an attempt that waits. granted is set before outcome is closed.
type waiter struct {
	granted bool
	outcome chan struct{}
}

// recent counts the failures in the Window.
func (b *budget) recent(now time.Duration) int { return b.within(Window, now) }

// within counts the failures in a window.
func (b *budget) within(window, now time.Duration) int {
	n := 0
	for _, at := range b.failures {
		if now < at+window {
			n++
		}
	}
	return n
}

// exhausted returns how long it takes until a failure is allowed again, 0 if one is now.
func (b *budget) exhausted(l limits, now time.Duration) time.Duration {
	n := b.recent(now)
	if n < l.maxFailures {
		return 0
	}
	return b.failures[len(b.failures)-l.maxFailures] + Window - now
}

// available returns how many more attempts may run.
func (b *budget) available(l limits, now time.Duration) int {
	return min(l.maxFailures-b.recent(now), l.maxRunning) - b.running
}

// finish ends an attempt. It lets waiting attempts run in order, or tells all of them that
// the budget is exhausted.
func (b *budget) finish(failed bool, l limits, now time.Duration) {
	b.running--
	if failed {
		b.fail(l, now)
	}
	for len(b.waiting) > 0 {
		granted := b.available(l, now) > 0
		if !granted && b.exhausted(l, now) == 0 {
			return
		}
		next := b.waiting[0]
		b.waiting = slices.Delete(b.waiting, 0, 1)
		if next.granted = granted; granted {
			b.running++
		}
		close(next.outcome)
	}
}

// fail counts a failure.
func (b *budget) fail(l limits, now time.Duration) {
	if len(b.failures) >= l.maxKept {
		b.failures = slices.Delete(b.failures, 0, len(b.failures)-l.maxKept+1)
	}
	b.failures = append(b.failures, now)
}

func (b *budget) isInUse() bool { return b.running > 0 || len(b.waiting) > 0 || b.queued > 0 }

// empty reports whether forgetting b changes nothing.
func (b *budget) empty() bool { return !b.isInUse() && len(b.failures) == 0 }

// removeWaiter removes a waiter whose context has ended.
func (b *budget) removeWaiter(w *waiter) {
	if n := slices.Index(b.waiting, w); n >= 0 {
		b.waiting = slices.Delete(b.waiting, n, n+1)
	}
}

// wait waits for the outcome, or returns the error of ctx.
func (w *waiter) wait(ctx context.Context) error {
	select {
	case <-w.outcome:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
