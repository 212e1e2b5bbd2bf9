package issuer

import (
	"context"
	"errors"
	"time"

	"keymill/keystore"
	"keymill/storage"
)

// Unavailable tells whether err means "not now": nothing can sign yet, the store is
// full or has failed, time ran out. The same request may succeed after the wait. The
// reason is for operators, who can do something about it, and for nobody else.
func Unavailable(err error) (reason string, retryAfter time.Duration, ok bool) {
	var keys *keystore.UnavailableError
	switch {
	case errors.As(err, &keys):
		return keys.Reason, keys.RetryAfter, true
	case errors.Is(err, storage.ErrNoSpace):
		return "the disk is full, nothing was written", storeWait, true
	case errors.Is(err, storage.ErrUnknownOutcome), errors.Is(err, storage.ErrClosed):
		return "the store has failed, the server is about to end", storeWait, true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "time ran out", storeWait, true
	}
	return "", 0, false
}

// storeWait: a restart takes less, and a full disk is nobody's to poll.
const storeWait = 5 * time.Second
