// Package unblocked keeps which users an administrator has let try to log in again. Failed logins are counted in the
// memory of each server, so each must hear of it: it reads the record with the user, before it counts an attempt.
//
//	unblocked/<id>   when that was, for the time in which earlier failures would count
//
// No entry of the index of the clean-up leads to it. There are few such records, so the clean-up reads them all, and
// earlier versions of the program, which do not know them, meet none of them.
package unblocked

import (
	"context"
	"time"

	"keymill/issuer/record"
	"keymill/storage"
)

// KeepFor is how long a record is kept. It is longer than any failure counts.
const KeepFor = 2 * time.Hour

const prefix = "unblocked/"

// A Record is of one user.
type Record struct {
	At time.Time `json:"at"` // a decision time in whole milliseconds
}

// Key returns the key of the record of a user.
func Key(id string) string { return prefix + id }

// Put notes that a user was unblocked at the decision time now. Each time is later than the one before, also if two servers whose
// decision times differ were asked: a server that knows one time forgets failures again only for a later one.
func Put(tx storage.Tx, id string, now time.Time) error {
	at := now.UTC().Truncate(time.Millisecond)
	last, err := Read(tx, id)
	if err != nil && !record.Unreadable(err) {
		return err
	} else if last != nil && !at.After(last.At) {
		at = last.At.Add(time.Millisecond)
	}
	return record.PutJSON(tx, Key(id), Record{at})
}

// Read returns nil without an error if the user was not unblocked, or too long ago to matter.
func Read(r storage.Reader, id string) (*Record, error) {
	return record.Find(r, Key(id), (*Record).possible)
}

// Decode reads the record under key.
func Decode(key string, raw []byte) (*Record, error) {
	return record.Decode(key, raw, (*Record).possible)
}

func (rec *Record) possible() bool {
	return storage.PossibleTime(rec.At) && rec.At.Nanosecond()%int(time.Millisecond) == 0
}

// sweepBatch records are deleted in one transaction.
const sweepBatch = 50

// Sweep deletes the records that are older than KeepFor at now, a time of the clean-up.
func Sweep(ctx context.Context, s storage.Store, now time.Time, damaged func(error)) error {
	old, err := oldRecords(ctx, s, now, damaged)
	if len(old) == 0 || err != nil {
		return err
	}
	return s.Update(ctx, func(tx storage.Tx) error {
		for _, id := range old {
			rec, err := Read(tx, id)
			if err == nil && rec != nil && rec.isOld(now) { // else the user was unblocked again
				err = tx.Delete(Key(id))
			}
			if err != nil && !record.Unreadable(err) {
				return err
			}
		}
		return nil
	})
}

func oldRecords(ctx context.Context, s storage.Store, now time.Time, damaged func(error)) (ids []string, err error) {
	err = record.View(ctx, s, damaged, func(r storage.Reader, setAside func(error)) error {
		ids = nil
		return record.Span{Prefix: prefix, Limit: 1000}.Each(r, setAside, func(id string, raw []byte) error {
			rec, err := Decode(Key(id), raw)
			if err == nil && rec.isOld(now) && len(ids) < sweepBatch {
				ids = append(ids, id)
			}
			return err
		})
	})
	return ids, err
}

func (rec *Record) isOld(now time.Time) bool { return now.Sub(rec.At) > KeepFor }
