package issuer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/epoch"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/sessionlist"
	"keymill/storage"
)

// A SessionQuery selects sessions.
type SessionQuery struct {
	User   string // name or id; "" means every user
	Client string // id; "" means every client
	After  string // Next of the page before; "" begins with the newest
	Limit  int    // at most 1,000
}

const (
	maxExamined = 5000 // sessions that one page reads to find those of a client
	shownAtOnce = 200  // sessions that one View shows; each needs up to five records
)

// Sessions returns sessions, newest first, also those that have ended and are kept to explain them.
func (i *Issuer) Sessions(ctx context.Context, q SessionQuery) (api.SessionPage, error) {
	before, ok := record.NewID(i.keys.Now().Add(time.Minute)), true // no login is that new, on any node
	if q.After != "" {
		before, ok = record.ParseID(q.After)
	}
	if !ok {
		return api.SessionPage{}, refuseSessionID(q.After)
	}
	find := i.newestSessions
	if q.User != "" {
		find = i.sessionsOfUser
	}
	q.Limit = min(q.Limit, maxListed)
	list, last, err := find(ctx, q, before)
	if err == nil && len(list) == 0 && q.After == "" && q.Client != "" {
		_, err = i.Client(ctx, q.Client) // its id may be mistyped
	}
	page := api.SessionPage{Sessions: append([]api.Session{}, list[:min(len(list), q.Limit)]...)}
	switch {
	case len(list) > q.Limit:
		page.Next = list[q.Limit-1].ID
	case last != (familyID{}):
		page.Next = last.String()
	}
	page.More = page.Next != ""
	return page, err
}

func refuseSessionID(id string) error {
	return refusal.New("invalid_request",
		"'%.100s' is not a session id: a session id has %d characters, 0 to 9 and a to v", refusal.Quoted(id), record.IDLength)
}

// sessionsOfUser returns all sessions of a user before an id, from the lists of the user.
func (i *Issuer) sessionsOfUser(ctx context.Context, q SessionQuery, before familyID) (list []api.Session, none familyID, err error) {
	var ids []familyID
	err = record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
		ids = nil
		user, _, err := i.lookUp(r, q.User)
		if err != nil {
			return err
		}
		return record.Span{Prefix: sessionlist.PrefixOf(user), After: "", Limit: maxListed}.Each(r, setAside, func(client string, raw []byte) error {
			some, err := sessionlist.Decode(sessionlist.Key(user, client), raw)
			ids = append(ids, slices.Concat(some.Ended, some.Open)...)
			return err
		})
	})
	if err != nil {
		return nil, none, err
	}
	ids = slices.DeleteFunc(ids, func(id familyID) bool { return bytes.Compare(id[:], before[:]) >= 0 })
	slices.SortFunc(ids, func(a, b familyID) int { return bytes.Compare(b[:], a[:]) })
	list, err = i.showAll(ctx, ids, q.Client)
	return list, none, err
}

// newestSessions returns the newest sessions before an id: more than q.Limit, or all, or those that
// it finds among about maxExamined. The next page begins before last; if last is zero, there is none.
//
// A login writes the record of its session under an id that begins with the time, a rotation keeps
// the key, and the clean-up deletes it. So these keys are an index of the logins by time. An index of
// its own, with inverted time, would cost every login another record, and in a B+tree whose new keys
// all come first most pages stay nearly empty.
func (i *Issuer) newestSessions(ctx context.Context, q SessionQuery, before familyID) (list []api.Session, last familyID, err error) {
	logins := storage.Backward{
		Store: i.store, Key: func(at uint64) string { return familyKey(familyAt(at)) },
		End: familyKey(before), At: binary.BigEndian.Uint64(before[:]), Width: uint64(time.Minute/time.Millisecond) << 16,
	}
	for read := 0; logins.At > 0 && len(list) <= q.Limit && read < maxExamined; {
		keys, err := logins.Next(ctx)
		if err != nil {
			return nil, last, err
		}
		var ids []familyID
		for _, key := range keys {
			if id, ok := record.ParseID(strings.TrimPrefix(key, "family/")); ok {
				ids = append(ids, id)
			}
		}
		shown, err := i.showAll(ctx, ids, q.Client)
		if err != nil {
			return nil, last, err
		}
		list, read = append(list, shown...), read+len(keys)
	}
	return list, familyAt(logins.At), nil
}

// familyAt returns the first id of an instant, in 1/65536 ms: six bytes of an id are its time in
// milliseconds, and two of its random bytes divide a millisecond in which many began.
func familyAt(at uint64) (id familyID) {
	binary.BigEndian.PutUint64(id[:], at)
	return id
}

// showAll describes those of the sessions that are of the client, or all if it is "". It leaves out
// sessions whose records are damaged or were deleted in the meantime.
func (i *Issuer) showAll(ctx context.Context, ids []familyID, client string) (list []api.Session, err error) {
	now := i.keys.Now()
	for part := range slices.Chunk(ids, shownAtOnce) {
		var some []api.Session
		err = errors.Join(err, record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
			some = nil
			ahead := record.NewAhead(r)
			if err := i.fetchFamilies(ahead, part); err != nil {
				return err
			}
			if _, err := epoch.Read(ahead); err != nil {
				return err // without it no session can be shown
			}
			for _, id := range part {
				f, err := i.familyWithClient(ahead, id)
				if record.Unreadable(err) {
					setAside(err)
					continue
				} else if err != nil {
					return err
				}
				if f != nil && (client == "" || client == f.terms.Client) {
					some = append(some, i.show(f, now))
				}
			}
			return nil
		}))
		list = append(list, some...)
	}
	return list, err
}
