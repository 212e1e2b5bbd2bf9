package issuer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"keymill/keystore"
	"keymill/storage"
)

// A Refusal is a no the client has earned, sent as RFC 6749, section 5.2 says.
// Every other error is a fault: the client learns only server_error. Refusals are
// made by Refuse and nowhere else.
type Refusal struct {
	Code  string // "invalid_grant", "invalid_target", …
	Hint  string // error_description: printable ASCII without '"' and '\'; no secrets
	Cause error  // for the log and the audit record, never for the client
}

func (r *Refusal) Error() string {
	if r.Cause != nil {
		return fmt.Sprintf("%s: %s (%v)", r.Code, r.Hint, r.Cause)
	}
	return r.Code + ": " + r.Hint
}

func (r *Refusal) Unwrap() error { return r.Cause }

const maxHintBytes = 400

// Refuse returns a Refusal whose hint is safe to send. This is the one place where
// hints are filtered, so that a name from a request may be put into one.
func Refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Hint: hint(fmt.Sprintf(format, args...))}
}

// hint keeps what RFC 6749, section 5.2 allows in error_description: %x20-21,
// %x23-5B and %x5D-7E. A double quote becomes a single one, the rest a question mark.
func hint(s string) string {
	if len(s) > maxHintBytes {
		s = s[:maxHintBytes]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < 0x20 || r > 0x7e || r == '\\':
			return '?'
		}
		return r
	}, s)
}

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
