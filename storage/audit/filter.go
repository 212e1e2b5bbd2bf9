package audit

import (
	"strings"
	"time"
)

// A Filter selects records. A zero field selects all.
//
// A record is about a user if its decision was made by "user:<id>", if its action begins with "user."
// and its target is the user, or if a fact of its detail is: "user", "sub". The same holds for
// clients, with "client".
type Filter struct {
	Since, Until time.Time // Since <= time < Until; a part of a second selects the whole second
	User         string    // id
	Name         string    // of a user who may have been removed, in the records that have it
	Client       string    // id
	Target       string    // the whole
	By           string    // the whole
	Action       string    // the whole, as "key.rotate", or its first part, as "key"
}

// wholeSeconds returns f with Since rounded down and Until rounded up, because the time of a record is
// that of its decision rounded down to a second.
func (f Filter) wholeSeconds() Filter {
	f.Since = f.Since.Truncate(time.Second)
	if whole := f.Until.Truncate(time.Second); whole.Before(f.Until) {
		f.Until = whole.Add(time.Second)
	}
	return f
}

func (f Filter) matches(r Record) bool {
	return !(!f.Since.IsZero() && r.Time.Before(f.Since)) &&
		!(!f.Until.IsZero() && !r.Time.Before(f.Until)) &&
		(f.Action == "" || r.Action == f.Action || strings.HasPrefix(r.Action, f.Action+".")) &&
		(f.Target == "" || r.Target == f.Target) &&
		(f.By == "" || r.By == f.By) &&
		(f.Client == "" || r.isAbout("client", f.Client)) &&
		(f.User == "" && f.Name == "" || f.isAboutUser(r))
}

func (f Filter) isAboutUser(r Record) bool {
	if f.User != "" && (r.isAbout("user", f.User) || r.Detail["sub"] == f.User) {
		return true
	}
	return f.Name != "" && strings.HasPrefix(r.Action, "user.") && (r.Detail["name"] == f.Name || r.Detail["old_name"] == f.Name)
}

func (r Record) isAbout(kind, id string) bool {
	return r.By == kind+":"+id || r.Detail[kind] == id || r.Target == id && strings.HasPrefix(r.Action, kind+".")
}
