package terminal

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// An Error is an error as the operator reads it: one line that says what is wrong and
// where, and perhaps one more that says what to do.
type Error struct {
	Err  error
	Hint string // "" if there is nothing to suggest
	Code int    // exit code; 0 means 1
}

// Error returns the first line, without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without hint and code.
func (e *Error) Unwrap() error { return e.Err }

// ErrSilent ends the program and prints nothing: stdout has the answer already. The exit code is 1, or that
// of an Error around it.
var ErrSilent = errors.New("exit without a message")

// Usage returns a usage error: the command line is wrong, and the exit code is 2.
func Usage(format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Code: 2}
}

// WithHint adds the second line to err and keeps its exit code.
func WithHint(err error, format string, args ...any) error {
	e := &Error{Err: err, Hint: fmt.Sprintf(format, args...)}
	var inner *Error
	if errors.As(err, &inner) {
		e.Code = inner.Code
	}
	return e
}

// HintOf returns the hint of err, or "".
func HintOf(err error) string {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// Report prints err to w and returns the exit code, which is 0 if err is nil.
func Report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	e := &Error{}
	errors.As(err, &e)
	if errors.Is(err, ErrSilent) {
		return max(e.Code, 1)
	}
	fmt.Fprintf(w, "keymill: %s\n", OneLine(Plain(err)))
	if e.Hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", OneLine(e.Hint))
	}
	return max(e.Code, 1)
}

// Warn prints a line about something that was done and is probably a mistake. Scripts read stdout,
// so it goes to stderr, also with --json.
func Warn(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "keymill: warning: %s\n", OneLine(fmt.Sprintf(format, args...)))
}

// OneLine joins the lines of s and makes the result printable.
func OneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return Printable(strings.Join(lines, " "))
}
