package jwks

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

var errClosed = errors.New("the Remote is closed")

// An attempt is one fetch, requested or in progress. All callers that wait share it.
type attempt struct {
	requested time.Time
	done      chan struct{} // closed when set and err are final
	set       *Set
	err       error
}

func newAttempt() *attempt { return &attempt{requested: time.Now(), done: make(chan struct{})} }

// follow is the loop of a Remote. Its goroutine is the only one that fetches.
func (r *Remote) follow(ctx context.Context) {
	defer close(r.done)
	defer r.stop()
	for {
		a := r.begin()
		last := r.try(ctx)
		if ctx.Err() != nil {
			return // Close interrupted the attempt, so it says nothing about the server
		}
		r.finish(a, last)
		r.log.tell(time.Now(), &last, r.config.MaxStale)
		if r.config.Fetched != nil {
			r.config.Fetched(last.err)
		}
		if !r.sleep(ctx, last.pause(time.Now(), r.config.Cooldown, rand.Float64())) {
			return
		}
	}
}

// begin returns the attempt that a caller requested, or a new one if none did. From here on
// every caller gets this attempt. It also serves a request that is still in wake, so begin
// removes that.
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
		// A dead connection would fail this attempt too, with any transport: HTTP/2 keeps it
		// until TCP gives up. It is closed here and not right after the failure, because at
		// that moment the failed request still uses it and it is not idle.
		r.fetcher.client.CloseIdleConnections()
	}
	r.fetcher.needKey = last.set != nil && len(last.set.keys) > 0
	result, err := r.fetcher.fetch(limited)
	last.location = r.fetcher.location
	if err != nil {
		return last.fail(err, began, time.Now())
	}
	return last.succeed(result, began, time.Now())
}

// finish publishes the result. It stores the record before it clears running: a caller that
// finds no attempt in progress must already see the cooldown of this one.
func (r *Remote) finish(a *attempt, last record) {
	r.record.Store(&last)
	r.mu.Lock()
	defer r.mu.Unlock()
	a.set, a.err = last.set, last.err
	r.running = nil
	close(a.done)
}

// stop ends an attempt that is requested or in progress. None begins afterwards.
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

// sleep waits for d or for a request in wake. It returns false when the Remote is closed.
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

// requestFetch returns the attempt in progress, or requests a new one from the loop; then mine
// is true. It returns nil if the cooldown is not over or the Remote is closed.
func (r *Remote) requestFetch(now time.Time) (a *attempt, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != nil || r.closed || !r.record.Load().mayBegin(now, r.config.Cooldown) {
		return r.running, false
	}
	r.running = newAttempt()
	r.wake <- struct{}{} // does not block: it is filled only while nothing is running, and begin empties it
	return r.running, true
}
