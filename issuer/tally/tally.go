// Package tally bounds the audit records that one user can make the store keep by doing something
// again and again, such as logging in and out.
//
// In each hour the first 200 events of each kind, of one user at one client, have a record each. The
// others are counted, and at most once a minute one record says how many there were of each kind. Each
// kind has its own 200, so that a flood of logins hides no reuse of a refresh token.
//
// The counts are in a record of their own that is written in the transaction of the event:
//
//	tally/<length of the user id>/<user>/<client>   {"began", "kept", "more", "since", "check"}
//
// So no count is lost or counted twice in a crash, and no two users wait for each other. Check writes
// the record of the last minute and deletes a tally whose hour is over.
package tally

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
)

const (
	// Kept is how many events of one kind have a record of their own in an hour.
	Kept = 200

	window = time.Hour
	every  = time.Minute // between two records with counts

	prefix = "tally/"
)

// Of says whose events are counted together.
type Of struct {
	User   string // id of at most 99 bytes; "" for the events of a client without a user
	Client string // id
}

// Name returns the name of the record: its key without "tally/".
func (o Of) Name() string { return fmt.Sprintf("%02d/%s/%s", len(o.User), o.User, o.Client) }

// Parse returns whose record has the name.
func Parse(name string) (o Of, ok bool) {
	length, err := strconv.Atoi(name[:min(2, len(name))])
	if at := len("07/") + length; err == nil && length >= 0 && at < len(name) {
		o = Of{User: name[len("07/"):at], Client: name[at+1:]}
	}
	return o, o.Name() == name
}

// Times are one moment on two clocks: that of decisions, which audit records have, and the one of the
// clean-up, which measures the hour and the minute.
type Times struct{ Decision, Cleanup time.Time }

type record struct {
	Began time.Time      `json:"began"`          // of the hour
	Kept  map[string]int `json:"kept"`           // action → events with a record of their own
	More  map[string]int `json:"more,omitempty"` // action → other events since the last record with counts
	Since time.Time      `json:"since,omitzero"` // of the first of them, by the clock of decisions
	Check time.Time      `json:"check"`          // when Check has to be called next
}

// Append writes the audit record of an event in the caller's transaction, or counts the event; own
// reports which. If check is not zero, the caller leaves an entry in the same transaction, so that Check is
// called then.
func Append(tx storage.Tx, now Times, of Of, e audit.Event) (own bool, check time.Time, err error) {
	rec, err := read(tx, of.Name())
	if err != nil {
		return false, check, err
	}
	switch {
	case rec != nil && now.Cleanup.Sub(rec.Began) >= window:
		if err := rec.flush(tx, now.Decision, of); err != nil {
			return false, check, err
		}
		fallthrough
	case rec == nil:
		check = now.Cleanup.Add(window)
		rec = &record{Began: now.Cleanup, Kept: map[string]int{}, Check: check}
	}
	if own = rec.Kept[e.Action] < Kept; own {
		rec.Kept[e.Action]++
		return own, check, errors.Join(put(tx, of.Name(), rec), audit.Append(tx, now.Decision, e))
	}
	if len(rec.More) == 0 {
		rec.More, rec.Since = map[string]int{}, now.Decision.UTC()
		if soon := now.Cleanup.Add(every); soon.Before(rec.Check) {
			rec.Check, check = soon, soon
		}
	}
	rec.More[e.Action]++
	return own, check, put(tx, of.Name(), rec)
}

// Check does what is due for the record of a name. If check is not zero, Check has to be called again
// then.
func Check(tx storage.Tx, now Times, name string) (check time.Time, err error) {
	rec, err := read(tx, name)
	if rec == nil || err != nil || now.Cleanup.Before(rec.Check.Truncate(time.Second)) {
		return check, err // another entry leads to it
	}
	of, ok := Parse(name)
	if !ok {
		return check, storage.Damaged(prefix+name, "its name is of no user and client")
	}
	if err := rec.flush(tx, now.Decision, of); err != nil {
		return check, err
	}
	if now.Cleanup.Sub(rec.Began) >= window-time.Second { // an entry has whole seconds
		return check, tx.Delete(prefix + name)
	}
	rec.Check = rec.Began.Add(window)
	return rec.Check, put(tx, name, rec)
}

// flush writes one audit record with the counts, if there are any.
func (rec *record) flush(tx storage.Tx, now time.Time, of Of) error {
	if len(rec.More) == 0 {
		return nil
	}
	detail := map[string]string{"client": of.Client, "since": rec.Since.Format(time.RFC3339)}
	if of.User != "" {
		detail["user"] = of.User
	}
	for action, n := range rec.More {
		detail[action] = strconv.Itoa(n)
	}
	rec.More, rec.Since = nil, time.Time{}
	return audit.Append(tx, now, audit.Event{Action: "session.many", By: "system", Detail: detail})
}

func read(r storage.Reader, name string) (*record, error) {
	raw, err := r.Get(prefix + name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return decode(prefix+name, raw)
}

func decode(key string, raw []byte) (*record, error) {
	rec := new(record)
	if err := storage.DecodeJSON(key, raw, rec); err != nil {
		return nil, err
	}
	if !rec.possible() {
		return nil, storage.Damaged(key, "a value in it is impossible")
	}
	return rec, nil
}

// possible reports whether this program can have written the record: it exists because of an event that
// has its own audit record, and an event is counted only after Kept of them. Check can be before Began:
// the clock of the clean-up loses some seconds in a crash.
func (rec *record) possible() bool {
	counted := len(rec.More) > 0
	if !storage.PossibleTime(rec.Began) || rec.Check.Before(rec.Began.Add(-window)) || rec.Check.After(rec.Began.Add(window)) ||
		counted == rec.Since.IsZero() || counted && !storage.PossibleTime(rec.Since) || len(rec.Kept) == 0 {
		return false
	}
	for action, n := range rec.Kept {
		if action == "" || n < 1 || n > Kept {
			return false
		}
	}
	for action, n := range rec.More {
		if n < 1 || rec.Kept[action] != Kept {
			return false
		}
	}
	return true
}

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a
// record under key.
func CheckRecord(key string, value []byte) error {
	if _, ok := Parse(strings.TrimPrefix(key, prefix)); !ok {
		return storage.Damaged(key, "its name is of no user and client")
	}
	_, err := decode(key, value)
	return err
}

func put(tx storage.Tx, name string, rec *record) error {
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return tx.Put(prefix+name, raw)
}
