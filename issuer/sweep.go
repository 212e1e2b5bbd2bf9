package issuer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/issuer/sessionlist"
	"keymill/issuer/tally"
	"keymill/storage"
)

// An index says when to check a family next, and when the record of a denied token or of a
// removed id can be deleted, and when the counts of a tally are written:
//
//	due/<Unix seconds, 8 hex digits>/f/<family>
//	due/<Unix seconds, 8 hex digits>/j/<jti>
//	due/<Unix seconds, 8 hex digits>/g/<id>
//	due/<Unix seconds, 8 hex digits>/t/<name of a tally>
//
// A rotation does not write it. If the family was used after the entry was written, the clean-up
// replaces the entry by one at the new end of the family. Time is Rings.ErasureTime, so that a wall
// clock that jumps deletes nothing.
const (
	duePrefix = "due/"
	dueFamily = "f"
	dueToken  = "j"
	dueGone   = "g"
	dueTally  = "t"
)

// dueKey bounds the time: the token of another program can expire in the year 9999, and with nine digits it
// would be the first of the index.
func dueKey(at time.Time, kind, id string) string {
	return fmt.Sprintf("%s%08x/%s/%s", duePrefix, min(max(at.Unix(), 0), math.MaxUint32), kind, id)
}

func deniedKey(jti string) string { return "denied/" + jti }

const (
	sweepEvery = 10 * time.Second
	// sweepBatch entries fit into one transaction: each needs at most nine keys.
	sweepBatch = 7
)

// Run deletes sessions, denied tokens and records of removed ids that have expired, writes the counts of
// tallies, and measures new password schemes, until ctx ends. Then it returns nil.
func (i *Issuer) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	failing := false
	for {
		err := errors.Join(i.passwords.SyncClasses(ctx, i.store), i.sweep(ctx))
		if err != nil && ctx.Err() == nil && !failing {
			i.log.Error("cannot clean up sessions or measure password schemes; trying again", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep handles every entry that is due. After a crash the next sweep handles the rest.
func (i *Issuer) sweep(ctx context.Context) error {
	for start := duePrefix; ctx.Err() == nil; {
		now := i.keys.ErasureTime()
		due, err := i.due(ctx, start, now)
		if err != nil || len(due) == 0 {
			return err
		}
		start = due[len(due)-1].key + " " // damaged entries before it are read once
		err = record.Update(ctx, i.store, i.damaged, func(tx storage.Tx, setAside func(error)) error {
			for _, e := range due {
				err := i.processDue(tx, e, now)
				if record.Unreadable(err) { // it must not block the others
					setAside(err)
					err = postpone(tx, e, now)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// A dueEntry is a key of the index.
type dueEntry struct {
	key  string
	at   time.Time
	kind string
	id   string
}

func parseDue(key string) (e dueEntry, err error) {
	parts := strings.SplitN(key, "/", 4)
	if len(parts) == 4 {
		seconds, _ := strconv.ParseInt(parts[1], 16, 64)
		e = dueEntry{key, time.Unix(seconds, 0), parts[2], parts[3]}
	}
	if len(parts) != 4 || dueKey(e.at, e.kind, e.id) != key || !storage.PossibleTime(e.at.UTC()) || !e.named() {
		return e, storage.Damaged(key, "it is not an entry that this program writes")
	}
	return e, nil
}

// named reports whether the id is one of its kind.
func (e dueEntry) named() bool {
	switch e.kind {
	case dueFamily:
		_, ok := record.ParseID(e.id)
		return ok
	case dueToken:
		return accesstoken.IsName(e.id)
	case dueGone:
		return names.IsClient(e.id)
	case dueTally:
		return validTally(e.id)
	}
	return false
}

// validTally reports whether a tally has the name.
func validTally(name string) bool {
	of, ok := tally.Parse(name)
	return ok && (of.User == "" || validUserID(of.User)) && names.IsClient(of.Client)
}

// due returns some entries of the index whose time has come, oldest first. Damaged ones stay as they are.
func (i *Issuer) due(ctx context.Context, start string, now time.Time) (due []dueEntry, err error) {
	err = record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
		due = nil
		for e, err := range r.Scan(start, dueKey(now.Add(time.Second), "", "")) {
			var entry dueEntry
			if err == nil {
				err = record.CheckPresent(e.Key, e.Value)
			}
			if err == nil {
				entry, err = parseDue(e.Key)
			}
			if record.Unreadable(err) {
				setAside(err)
				continue
			} else if err != nil {
				return err
			}
			if due = append(due, entry); len(due) == sweepBatch {
				break
			}
		}
		return nil
	})
	return due, err
}

func (i *Issuer) processDue(tx storage.Tx, e dueEntry, now time.Time) error {
	if err := tx.Delete(e.key); err != nil {
		return err
	}
	switch e.kind {
	case dueToken:
		if denied, err := isDenied(tx, e.id); !denied || err != nil {
			return err
		}
		return tx.Delete(deniedKey(e.id))
	case dueGone:
		return processDueGone(tx, e.id, now)
	case dueTally:
		return i.processDueTally(tx, e.id, now)
	}
	id, _ := record.ParseID(e.id)
	next, f, err := i.processDueFamily(tx, id, now)
	if err != nil || next.IsZero() {
		return err
	}
	// The next entry must be at least a second later, or the loop would not end.
	f.rec.due = latest(next, e.at.Add(time.Second))
	return putFamily(tx, f)
}

// putFamily writes the record of a family and its entry in the index of the clean-up.
func putFamily(tx storage.Tx, f *family) error {
	return errors.Join(tx.Put(familyKey(f.id), f.rec.encode()), tx.Put(dueKey(f.rec.due, dueFamily, f.id.String()), record.Present()))
}

// deleteFamily deletes the record of a family and its entry in the index of the clean-up.
func deleteFamily(tx storage.Tx, id familyID, rec *familyRecord) error {
	return errors.Join(tx.Delete(familyKey(id)), tx.Delete(dueKey(rec.due, dueFamily, id.String())))
}

// postpone puts an entry back, a day later.
func postpone(tx storage.Tx, e dueEntry, now time.Time) error {
	return tx.Put(dueKey(now.Add(24*time.Hour), e.kind, e.id), record.Present())
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// processDueFamily deletes a family that is over and returns zero, or returns when to check it again.
// One in a permanent state stays until its absolute end, so that it can be explained.
func (i *Issuer) processDueFamily(tx storage.Tx, id familyID, now time.Time) (next time.Time, f *family, err error) {
	f, err = i.familyWithClient(tx, id)
	if f == nil || err != nil {
		return next, nil, err
	}
	client := f.client
	if client == nil {
		client = &clientRecord{} // it was removed; the configured lifetimes count
	}
	limits := i.lifetimes(client, f.rec.endpoint)
	switch f.state(now, limits) {
	case stateLive:
		return f.rec.expires(limits), f, nil
	case stateEnded, stateOutdated, stateExhausted:
		end := f.rec.absolute(limits)
		if f.rec.end == endedByLimit {
			end = earliest(end, f.rec.endedAt.Add(keepEvicted))
		}
		if now.Before(end) {
			return end, f, nil
		}
	}
	list, err := sessionlist.Read(tx, f.rec.user, f.terms.Client)
	if err != nil {
		return next, nil, err
	}
	if err := deleteFamily(tx, id, f.rec); err != nil || !list.Remove(id) {
		return next, nil, err
	}
	return next, nil, list.Put(tx, f.rec.user, f.terms.Client)
}

// processDueTally writes the record of events that have none of their own.
func (i *Issuer) processDueTally(tx storage.Tx, name string, now time.Time) error {
	next, err := tally.Check(tx, tally.Times{Decision: i.keys.Now(), Cleanup: now}, name)
	if err != nil || next.IsZero() {
		return err
	}
	return tx.Put(dueKey(next, dueTally, name), record.Present())
}
