package endpoint

import (
	"context"
	"slices"
	"time"
)

// A budget allows so many failures in a window. An attempt takes a place before it is
// looked at and gives it back with its outcome, and places are not handed out beyond
// what failures would be left if all attempts under way failed: so attempts at the same
// time cannot exceed the limit. One that finds the remaining places taken waits for
// outcomes instead of being refused, since those who know their password free them.
//
// Instants are durations since the guard was made, which no change of the wall clock
// moves. Everything here is owned by the guard's mutex.
type budget struct {
	failures []time.Duration // the newest, oldest first, at most as many as matter
	underWay int
	waiting  []*waiter // in order of arrival
	patient  int       // attempts that wait, for whatever reason: of networks only
	asleep   int       // of patient, those that sit out a delay: of pairs only
}

// A row says what a budget allows.
type row struct {
	limit  int // failures in a window
	atOnce int // attempts under way
	kept   int // failures that matter
}

// A waiter is told once: by closing outcome, after granted is set.
type waiter struct {
	granted bool
	outcome chan struct{}
}

// recent counts the failures inside the window.
func (b *budget) recent(now time.Duration) int {
	n := 0
	for _, at := range b.failures {
		if now < at+failureWindow {
			n++
		}
	}
	return n
}

// exhausted says how long until a failure is allowed again, 0 if one is now.
func (b *budget) exhausted(r row, now time.Duration) time.Duration {
	n := b.recent(now)
	if n < r.limit {
		return 0
	}
	return b.failures[len(b.failures)-r.limit] + failureWindow - now
}

// free counts the places that nobody has.
func (b *budget) free(r row, now time.Duration) int {
	return min(r.limit-b.recent(now), r.atOnce) - b.underWay
}

// settle gives a place back and hands free ones to those who wait, or tells them all
// that nothing is left.
func (b *budget) settle(failed bool, r row, now time.Duration) {
	b.underWay--
	if failed {
		b.fail(r, now)
	}
	for len(b.waiting) > 0 {
		granted := b.free(r, now) > 0
		if !granted && b.exhausted(r, now) == 0 {
			return
		}
		next := b.waiting[0]
		b.waiting = slices.Delete(b.waiting, 0, 1)
		if next.granted = granted; granted {
			b.underWay++
		}
		close(next.outcome)
	}
}

// fail notes a failure.
func (b *budget) fail(r row, now time.Duration) {
	if len(b.failures) >= r.kept {
		b.failures = slices.Delete(b.failures, 0, len(b.failures)-r.kept+1)
	}
	b.failures = append(b.failures, now)
}

func (b *budget) inUse() bool { return b.underWay > 0 || len(b.waiting) > 0 || b.patient > 0 }

// blank tells whether forgetting b changes nothing.
func (b *budget) blank() bool { return !b.inUse() && len(b.failures) == 0 }

// leave takes a waiter out that has lost patience.
func (b *budget) leave(w *waiter) {
	if n := slices.Index(b.waiting, w); n >= 0 {
		b.waiting = slices.Delete(b.waiting, n, n+1)
	}
}

// wait waits for the outcome or the end of ctx, which it tells.
func (w *waiter) wait(ctx context.Context) error {
	select {
	case <-w.outcome:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
