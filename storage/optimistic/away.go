package optimistic

import (
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// slowFailure is how long a request to the Engine takes at least if it failed because the Engine waited for its database.
const slowFailure = time.Second

// failureOfAll returns the error of the calls that waited behind a request to the Engine that began at begun and failed
// with err. It is nil if the failure says nothing about them.
//
// An Engine that is away takes its whole deadline to say so. Without this, a call that waited for that would then wait
// for a deadline of its own, and the last of many calls for much more than their clients do.
func failureOfAll(err error, begun time.Time) error {
	switch {
	case err == nil || time.Since(begun) < slowFailure:
		return nil
	case errors.Is(err, storage.ErrUnavailable):
		return err
	case errors.Is(err, storage.ErrUnknownOutcome): // of that request; the calls behind it have sent nothing
		return fmt.Errorf("%w: the database did not answer an earlier request", storage.ErrUnavailable)
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
