// Package refusal has the two types that cross every package of the issuer: a Refusal, which
// is an answer that a client is meant to read, and a Secret, which no log line can show.
package refusal

import (
	"fmt"
	"strings"
)

// A Refusal is a no the client has earned, sent as RFC 6749, section 5.2 says.
// Every other error is a fault: the client learns only server_error. Refusals are
// made by New and nowhere else.
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

// New returns a Refusal whose hint is safe to send. This is the one place where
// hints are filtered, so that a name from a request may be put into one.
func New(code, format string, args ...any) *Refusal {
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
