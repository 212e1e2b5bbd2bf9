package optimistic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// slowFailure is how long a request to the Engine takes at least if it failed because the Engine waited for its database.
const slowFailure = time.Second

// leastForBatch is the part of the deadline of a call that a batch has at least: a call that has waited for the rest joins
// none. So the wait behind others and the wait for the own batch have one bound.
const leastForBatch = 5

// errWaited ends a call that has waited behind others for too long. Nothing of it was sent.
var errWaited = fmt.Errorf("%w: the database is slow, and earlier requests have not ended in time", storage.ErrUnavailable)

// errSlow ends a call that only read, if the Engine has not answered it before the deadline of the Store.
var errSlow = fmt.Errorf("%w: the database is slow, and has not answered in time", storage.ErrUnavailable)

// ofStore returns the error of a request without writes whose context has a deadline of the Store. The caller does not know of
// that deadline.
func ofStore(err error) error {
	if err == context.DeadlineExceeded {
		return errSlow
	}
	return err
}

// send sends an item to a queue, unless the time is over before.
func send[T any](ctx context.Context, until time.Time, queue chan<- T, item T) error {
	select {
	case queue <- item: // without a timer
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case queue <- item:
		return nil
	case <-timer.C:
		return errWaited
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await waits for done, unless the time is over before. An answer that is there counts, however late its caller looks for it.
func await(ctx context.Context, until time.Time, done <-chan struct{}) error {
	select {
	case <-done: // without a timer
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return errWaited
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failureOfAll returns the error of the calls that waited behind a request to the Engine that began at begun and failed
// with err. It is nil if the failure says nothing about them.
//
// An Engine that is away takes its whole deadline to say so. Without this, a call that waited for that would then wait
// for a deadline of its own, and the last of many calls for much more than their clients do.
func failureOfAll(err error, begun time.Time) error {
	switch {
	case err == nil || time.Since(begun) < slowFailure:
		return nil
	case errors.Is(err, storage.ErrUnknownOutcome): // of that request; the calls behind it have sent nothing
		return fmt.Errorf("%w: the database did not answer an earlier request", storage.ErrUnavailable)
	case errors.Is(err, storage.ErrUnavailable):
		return err
	}
	return nil
}

// drain takes everything that waits in the queue.
func drain[T any](queue <-chan *T, end func(*T)) {
	for {
		select {
		case item, open := <-queue:
			if !open {
				return
			}
			end(item)
		default:
			return
		}
	}
}
