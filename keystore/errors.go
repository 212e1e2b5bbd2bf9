package keystore

import (
	"fmt"
	"time"

	"keymill/keystore/internal/schedule"
)

// A NotReadyError refuses a rotation, because some verifiers may not know the next key yet.
type NotReadyError = schedule.NotReadyError

// An UnavailableError means that nothing can be signed at the moment. A retry can succeed.
type UnavailableError struct {
	Reason     string
	RetryAfter time.Duration

	cause error
}

// Error returns the reason.
func (e *UnavailableError) Error() string { return e.Reason }

// Unwrap returns storage.ErrUnavailable if the keys could not be read from a shared store for too long, else nil.
func (e *UnavailableError) Unwrap() error { return e.cause }

// A lifetimeError is the cause of an UnavailableError: the token would live longer than its key is published.
type lifetimeError struct{}

// Error says so.
func (*lifetimeError) Error() string { return "the token would live too long" }

// An InvalidError refuses a request of an operator.
type InvalidError struct {
	Code        string // "not_found", "already_exists", "no_reserve" or "invalid_request"
	Description string // what is wrong and what to do

	logged string // Description without quoted text
}

// Error returns the description for the log: without text of the request, which may be a secret in
// the wrong place.
func (e *InvalidError) Error() string { return e.logged }

// quoted is text of a request that a description repeats, and that no log shows.
type quoted string

func invalid(code, format string, args ...any) error {
	shown := fmt.Sprintf(format, args...)
	for n, arg := range args {
		if _, ok := arg.(quoted); ok {
			args[n] = quoted("...")
		}
	}
	return &InvalidError{code, shown, fmt.Sprintf(format, args...)}
}
