// Package refusal has two types that every package of the issuer uses: a Refusal, which is an error
// that the client reads, and a Secret, which no log line can show. Secret is here because this
// package imports no other package of Keymill, so all of them can use it.
package refusal

import (
	"fmt"
	"slices"
	"strings"
)

// A Refusal is an error of the client, sent as RFC 6749, section 5.2 says. Every other error is a
// fault, of which the client learns only server_error. Only New makes a Refusal.
type Refusal struct {
	Code        string // "invalid_grant", "invalid_target", …
	Description string // error_description: printable ASCII without '"' and '\'; no secrets
	Cause       error  // for the log and the audit record, never for the client

	logged string // Description without the Quoted text
}

// A Quoted is text of a request that Description repeats, and that no log shows: a name of nothing that
// exists may be a secret in the wrong place, such as a client's secret that was given as its id.
type Quoted string

// Error returns all of it, the cause too, for the log, without Quoted text. A client gets Code and
// Description only.
func (r *Refusal) Error() string {
	if r.Cause != nil {
		return fmt.Sprintf("%s: %s (%v)", r.Code, r.logged, r.Cause)
	}
	return r.Code + ": " + r.logged
}

// Unwrap returns the cause, nil if there is none.
func (r *Refusal) Unwrap() error { return r.Cause }

const maxDescriptionBytes = 400

// New returns a Refusal whose description is safe to send: it filters the description, so a name
// from a request can be part of it.
func New(code, format string, args ...any) *Refusal {
	shown := describe(fmt.Sprintf(format, args...))
	logged := shown
	for n, arg := range args {
		if _, ok := arg.(Quoted); ok {
			args = slices.Clone(args)
			args[n] = Quoted("...")
			logged = describe(fmt.Sprintf(format, args...))
		}
	}
	return &Refusal{Code: code, Description: shown, logged: logged}
}

// describe keeps the characters that RFC 6749, section 5.2 allows in error_description: %x20-21, %x23-5B
// and %x5D-7E. A double quote becomes a single one, any other byte a question mark.
func describe(s string) string {
	if len(s) > maxDescriptionBytes {
		s = s[:maxDescriptionBytes]
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
