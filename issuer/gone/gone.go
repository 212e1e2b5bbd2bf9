// Package gone keeps what stays of an id whose client or user was removed, until no access token of it is left. The
// next client or user with the id begins with a later epoch, so that it revives no token and no session, also
// if it is added within the same instant or after the clock was set back.
//
//	gone/<id>   the last epoch of the id, for 24 h and 2 min
package gone

import (
	"errors"
	"time"

	"keymill/issuer/audience"
	"keymill/issuer/due"
	"keymill/issuer/epoch"
	"keymill/issuer/record"
	"keymill/storage"
)

// A Record is of one id.
type Record struct {
	Epoch uint64    `json:"epoch"`
	Until time.Time `json:"until"` // a decision time in whole seconds
}

// Key returns the key of the record of an id.
func Key(id string) string { return "gone/" + id }

// Put notes the epoch that the client or user with the id had at the end, and when the clean-up looks at it.
func Put(tx storage.Tx, id string, last uint64, now time.Time) error {
	rec := Record{Epoch: last, Until: now.Add(audience.MaxTTL + epoch.MaxClockStep + time.Second).UTC().Truncate(time.Second)}
	return errors.Join(record.PutJSON(tx, Key(id), rec), tx.Put(due.Key(rec.Until, due.Gone, id), record.Present()))
}

// Read returns nil without an error if no client or user with the id was removed in the last 24 hours and 2 minutes.
func Read(r storage.Reader, id string) (*Record, error) {
	return record.Find(r, Key(id), (*Record).possible)
}

// Decode reads the record under key.
func Decode(key string, raw []byte) (*Record, error) {
	return record.Decode(key, raw, (*Record).possible)
}

func (rec *Record) possible() bool {
	return record.PossibleSecond(rec.Until) && record.PossibleEpoch(rec.Epoch)
}

// Sweep deletes the record of a removed id that is no longer needed. A record that is needed
// for longer is of a later removal, which has an entry of its own.
func Sweep(tx storage.Tx, id string, now time.Time) error {
	rec, err := Read(tx, id)
	if rec == nil || err != nil || now.Before(rec.Until) {
		return err
	}
	return tx.Delete(Key(id))
}
