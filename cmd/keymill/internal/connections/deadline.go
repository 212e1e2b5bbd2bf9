package connections

import (
	"errors"
	"os"
	"sync"
	"time"
)

// A deadline is that of the reads or of the writes of a connection. net/http sets both eight times for each request, and
// each time the runtime changes a timer. Nearly all of these deadlines are replaced before they pass. So a deadline is only
// kept here, and the connection has an earlier one for as long as that does:
//
//	wanted   ────5 s────┐ none ┌──120 s──
//	timer    ──────5 s, from an earlier request──────┐ passes: the operation goes on with the deadline that is wanted then
//
// An operation ends when the deadline that is wanted has passed, not earlier and not later.
type deadline struct {
	set   func(time.Time) error // of the connection
	began time.Time             // a wanted deadline before it has passed: net/http ends a read with one in 1970

	mu     sync.Mutex
	wanted time.Time // zero for none, as the timer
	timer  time.Time
	passed bool // the timer has passed
	busy   int  // operations under way
}

// want replaces the deadline, also for operations under way.
func (d *deadline) want(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if d.busy == 0 {
		return nil // do sets the timer
	}
	return d.setTimer()
}

// setTimer sets the timer, unless it passes early enough. d.mu is held.
func (d *deadline) setTimer() error {
	early := d.wanted.IsZero() || !d.timer.IsZero() && !d.timer.After(d.wanted)
	if early && !d.passed {
		return nil
	}
	d.timer, d.passed = d.wanted, false
	return d.set(d.wanted)
}

// do calls an operation, and again for as long as it ends only because of the timer. What it has done before must not be
// done again.
func (d *deadline) do(operation func() error) error {
	for {
		if d.isOver() {
			return os.ErrDeadlineExceeded
		}
		if err := operation(); !d.endedEarly(err) {
			return err
		}
	}
}

// isOver reports whether the deadline has passed long ago. If not, an operation begins.
func (d *deadline) isOver() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted.IsZero() && d.wanted.Before(d.began) {
		return true
	}
	d.busy++
	d.setTimer() // an error comes from the operation too
	return false
}

// endedEarly ends an operation, and reports whether it must be called again.
func (d *deadline) endedEarly(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.passed = true
	return d.wanted.IsZero() || time.Now().Before(d.wanted)
}
