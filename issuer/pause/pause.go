// Package pause notices that this process did not run: it was stopped, its machine was suspended or too busy. A
// request that lay in a socket in that time is older than it looks.
//
//	tick   tick                          tick   tick
//	 ┼──────┼─── the process is paused ───┼──────┼────▶ time
//	        └──────── a pause ────────────┴─ settle ─┘
//	                                         requests that waited are read
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
	// settle is how long after a pause a request may still have waited in a socket. The process reads them at once when it
	// runs again.
	settle = time.Second
)

// A Watch knows the last pause. The zero value knows of none. It is safe for concurrent use.
type Watch struct {
	mu     sync.Mutex
	looked time.Time // zero before the first Look, and after Run
	began  time.Time // the last pause, or several that followed one another at once
	ended  time.Time
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
		if w.ended.IsZero() || between(w.ended, w.looked) > settle {
			w.began = w.looked
		}
		w.ended = now
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
	if w.ended.IsZero() || between(w.ended, read) > settle {
		return between(read, now), false
	}
	return max(between(w.began, now), between(read, now)), true
}

// between returns the time from one instant to another. The monotonic clock stands still while the machine is suspended,
// and the wall clock does not.
func between(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}
