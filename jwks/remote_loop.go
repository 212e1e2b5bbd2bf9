package jwks

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

var errClosed = errors.New("it has been closed")

// An attempt is one fetch, asked for or under way. Whoever waits for it shares it.
type attempt struct {
	asked time.Time
	done  chan struct{} // closed when set and err are there to read
	set   *Set
	err   error
}

func newAttempt() *attempt { return &attempt{asked: time.Now(), done: make(chan struct{})} }

// follow is the one goroutine of a Remote, and the only one that fetches.
func (r *Remote) follow(ctx context.Context) {
	defer close(r.done)
	defer r.stop()
	for {
		a := r.begin()
		last := r.try(ctx)
		if ctx.Err() != nil {
			return // cut short by Close, which says nothing about the server
		}
		r.finish(a, last)
		if r.config.Fetched != nil {
			r.config.Fetched(last.err)
		}
		if !r.sleep(ctx, last.pause(time.Now(), r.config.Cooldown, rand.Float64())) {
			return
		}
	}
}

// begin takes the attempt that callers ask for, or starts one of the loop's own. Whoever
// asks from now on is given this one, so a call that is still in wake is answered by it.
func (r *Remote) begin() *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.wake:
	default:
	}
	if r.running == nil {
		r.running = newAttempt()
	}
	r.fetches++
	return r.running
}

// try makes an attempt and returns the record after it.
func (r *Remote) try(ctx context.Context) record {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	last := *r.record.Load()
	if last.err != nil {
		// A connection that went dead would fail this attempt too, whoever made the transport:
		// HTTP/2 holds on to one until TCP gives it up. Right after the failure it would not
		// be let go of, being in use by the request that was given up.
		r.fetcher.client.CloseIdleConnections()
	}
	got, err := r.fetcher.fetch(limited)
	last.location = r.fetcher.location
	if err != nil {
		return last.fail(err, began, time.Now())
	}
	return last.succeed(got, began, time.Now())
}

// finish makes the outcome known. The record goes first: who finds no attempt under way
// must find the cooldown of this one.
func (r *Remote) finish(a *attempt, last record) {
	r.record.Store(&last)
	r.mu.Lock()
	defer r.mu.Unlock()
	a.set, a.err = last.set, last.err
	r.running = nil
	close(a.done)
}

// stop ends what is asked for or under way; nothing is begun afterwards.
func (r *Remote) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.running != nil {
		r.running.err = errClosed
		close(r.running.done)
		r.running = nil
	}
}

// sleep waits for d or for a caller, and reports whether the Remote goes on.
func (r *Remote) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-r.wake:
	case <-timer.C:
	}
	return true
}

// ask returns the attempt under way, or has the loop begin one, which is mine then. It
// returns nil where the cooldown forbids it and where the Remote is closed.
func (r *Remote) ask(now time.Time) (a *attempt, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != nil || r.closed || !r.record.Load().mayBegin(now, r.config.Cooldown) {
		return r.running, false
	}
	r.running = newAttempt()
	r.wake <- struct{}{} // has room: it is only filled where nothing is running, and begin empties it
	return r.running, true
}
