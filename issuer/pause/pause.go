// Package pause notices that this process did not run: it was stopped, its machine was suspended or too busy. A
// request that lay in a socket in that time is older than it looks.
//
//	tick   tick                          tick   tick
//	 ┼──────┼─── the process is paused ───┼──────┼────▶ time
//	        └──────── a pause ────────────┴─ settle ─┘
//	                                         requests that waited are read
//
// A request that came in a pause is read before the process has run for the time settle in all, also if further pauses cut that
// time into pieces. So pauses that follow one another count together only as far back as that: a server that is paused for 1 s in every
// 2 s, for hours, does not take requests for hours old.
//
// Only the process itself is measured. A store or a client that is slow does not look like a pause.
package pause

import (
	"context"
	"sync"
	"time"
)

const (
	tickEvery = 250 * time.Millisecond
	// least is how long a pause is at least: much longer than the collector or the scheduler takes.
	least = time.Second
	// settle is how long the process has to run until it has read the requests that waited in sockets. It reads them at once
	// when it runs again.
	settle = time.Second
	// joined is how many pauses can count together: between two of them, the process has run for tickEvery at least, or for
	// so short that Look did not see it, which counts as much.
	joined = int(settle/tickEvery) + 1
)

// A pause is when the process did not run.
type pause struct{ began, ended time.Time }

// A Watch knows the last pauses. The zero value knows of none. It is safe for concurrent use.
type Watch struct {
	mu     sync.Mutex
	looked time.Time // zero before the first Look, and after Run
	pauses []pause   // the last ones, at most joined, the newest first
}

// Run looks for pauses until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		w.Look()
		select {
		case <-ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			w.looked = time.Time{}
			return
		case <-tick.C:
		}
	}
}

// Look notes that the process runs now. The time since the last Look was a pause if it is long.
func (w *Watch) Look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
}

func (w *Watch) look() {
	now := time.Now()
	if !w.looked.IsZero() && between(w.looked, now) >= least {
		older := w.pauses[:min(len(w.pauses), joined-1)]
		w.pauses = append([]pause{{w.looked, now}}, older...)
	}
	w.looked = now
}

// Waited returns for how long a request that was read at an instant may have waited: since then, or since the beginning of a
// pause. paused reports the second.
func (w *Watch) Waited(read time.Time) (waited time.Duration, paused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.looked.IsZero() { // after a pause, a request can be faster than Run
		w.look()
	}
	now := time.Now()
	began, paused := w.since(read)
	if !paused {
		return between(read, now), false
	}
	return max(between(began, now), between(read, now)), true
}

// since returns the beginning of the earliest pause in which a request can have come that was read at an instant.
func (w *Watch) since(read time.Time) (began time.Time, paused bool) {
	ran, until := time.Duration(0), read
	for _, p := range w.pauses {
		gap := max(between(p.ended, until), 0) // 0 for a pause after it was read
		if until.Before(read) {
			gap = max(gap, tickEvery)
		}
		if ran += gap; ran > settle {
			break
		}
		began, paused = p.began, true
		if began.Before(until) {
			until = began
		}
	}
	return began, paused
}

// between returns the time from one instant to another. The monotonic clock stands still while the machine is suspended,
// and the wall clock does not.
func between(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}
