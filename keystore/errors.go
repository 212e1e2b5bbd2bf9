package keystore

import (
	"fmt"
	"time"
)

// A NotReadyError says that a rotation would meet verifiers that do not know the next key.
type NotReadyError struct {
	Alg string
	At  time.Time // when it will be ready; zero while the key is being made
}

func (e *NotReadyError) Error() string {
	if e.At.IsZero() {
		return fmt.Sprintf("the next %s key is still being made; try again in a moment", e.Alg)
	}
	return fmt.Sprintf("the next %s key is known to every verifier only at %s",
		e.Alg, e.At.UTC().Format(time.RFC3339))
}

// An UnavailableError says that nothing can be signed just now; a retry may succeed.
type UnavailableError struct {
	Reason     string
	RetryAfter time.Duration
}

func (e *UnavailableError) Error() string { return e.Reason }

// An InvalidError says why a request of an operator cannot be done as it stands.
type InvalidError struct {
	Code string // "not_found", "already_exists" or "invalid_request"
	Hint string
}

func (e *InvalidError) Error() string { return e.Hint }

func invalid(code, format string, args ...any) error {
	return &InvalidError{Code: code, Hint: fmt.Sprintf(format, args...)}
}
