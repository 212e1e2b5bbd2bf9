// Package outage tells whose fault a failed request is.
//
//	a key, the store, the disk or a record ──▶ the server's: 503, with or without a time to wait
//	everything else                        ──▶ a refusal, or a fault of the program
package outage

import (
	"context"
	"errors"
	"time"

	"keymill/issuer/record"
	"keymill/keystore"
	"keymill/storage"
)

// Of reports whether the server, and not the request, is why the request failed: no key can sign yet,
// the store is full or has failed, the request took too long, or a record that it needs cannot be read. The same
// request can succeed after retryAfter, which is 0 if only the operator can help: a damaged record stays so.
// The reason is for operators only.
func Of(err error) (reason string, retryAfter time.Duration, ok bool) {
	var keys *keystore.UnavailableError
	switch {
	case errors.As(err, &keys):
		return keys.Reason, max(keys.RetryAfter, time.Second), true
	case errors.Is(err, record.ErrNewer):
		return err.Error(), 0, true
	case errors.Is(err, storage.ErrDamaged):
		return "a record is damaged, see the server's log and keymill doctor: " + err.Error(), 0, true
	case errors.Is(err, storage.ErrUnknownOutcome): // before all that say that nothing was written
		return "a commit failed, so the change may have been made or not: " + err.Error(), storeWait, true
	case errors.Is(err, storage.ErrNoSpace):
		return "the disk is full; nothing was written", storeWait, true
	case HasMoved(err):
		return "nothing was written: " + err.Error() + "; make the change at a server of that store", storeWait, true
	case errors.Is(err, storage.ErrUnavailable):
		return "the store is not available; nothing was written: " + err.Error(), storeWait, true
	case errors.Is(err, storage.ErrBroken), errors.Is(err, storage.ErrClosed):
		return "the store has failed or is closed, and the server is about to exit", storeWait, true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "the request took too long or was cancelled", storeWait, true
	}
	return "", 0, false
}

// HasMoved reports whether the request failed because the store was moved to another place. This server writes nothing in
// it again. A client that asks the same address later succeeds once the operator has sent it to a server of the new place.
func HasMoved(err error) bool { return errors.Is(err, storage.ErrMoved) }

// storeWait is longer than a restart takes, and long enough not to poll a full disk.
const storeWait = 5 * time.Second

// OfStore reports whether the request failed because the store could not be asked, so that another question would
// wait as long. A store that was moved still answers questions.
func OfStore(err error) bool {
	return errors.Is(err, storage.ErrUnavailable) && !HasMoved(err) || errors.Is(err, storage.ErrUnknownOutcome) || errors.Is(err, context.DeadlineExceeded)
}
