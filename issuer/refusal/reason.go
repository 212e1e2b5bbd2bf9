package refusal

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// A Reason adds to an error what only the operator may know: whose request was refused, and why. It
// tells which accounts exist, so it is for the log and never for the client. It wraps the error, or it
// is the Cause of a Refusal.
type Reason struct {
	Code    string            // "wrong_password", "expired", …; docs/operate.md lists all
	Login   bool              // the request was a login; otherwise it presented a token
	Replay  bool              // the token was used before, and its session ended because of this request
	User    string            // id; "" if no account is known
	Session string            // id; "" if no session is known
	Until   time.Time         // when such a request is no longer refused; zero if that is not known
	Facts   map[string]string // attribute of the log line → value; a replay's are also in its audit record
	Err     error
}

// Error returns the text of the error that r adds to.
func (r *Reason) Error() string { return r.Err.Error() }

// Unwrap returns the error that r adds to.
func (r *Reason) Unwrap() error { return r.Err }

// Because returns a Reason in words, as a Cause.
func Because(code, words string) *Reason { return &Reason{Code: code, Err: errors.New(words)} }

// Attrs returns the attributes of the log line.
func (r *Reason) Attrs() []slog.Attr {
	var list []slog.Attr
	add := func(name, value string) {
		if value != "" {
			list = append(list, slog.String(name, value))
		}
	}
	add("user", r.User)
	add("session", r.Session)
	add("reason", r.Code)
	if !r.Until.IsZero() {
		add("until", r.Until.UTC().Truncate(time.Second).Format(time.RFC3339))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Facts)) {
		add(name, r.Facts[name])
	}
	return list
}

// CodeOf returns the code of the Reason in err, or else one for its Refusal. It returns "" for any
// other error: a fault.
func CodeOf(err error) string {
	var reason *Reason
	var refused *Refusal
	switch {
	case errors.As(err, &reason):
		return reason.Code
	case !errors.As(err, &refused):
		return ""
	case refused.Code == "unauthorized_client":
		return "client_not_allowed"
	}
	return refused.Code
}
