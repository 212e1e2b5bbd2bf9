package issuer

import (
	"errors"
	"time"

	"keymill/issuer/audience"
	"keymill/issuer/due"
	"keymill/issuer/epoch"
	"keymill/issuer/record"
	"keymill/storage"
)

// A goneRecord is what stays of an id whose client or user was removed, until no access token of it
// is left. The next client or user with the id begins with a later epoch, so that it revives no token
// and no session, also if it is added within the same instant or after the clock was set back.
type goneRecord struct {
	Epoch uint64    `json:"epoch"`
	Until time.Time `json:"until"` // a decision time in whole seconds
}

func goneKey(id string) string { return "gone/" + id }

// leave removes an id from the index and notes the epoch that its client or user had at the end.
func (d decision) leave(id string, last uint64) error {
	rec := goneRecord{Epoch: last, Until: d.now.Add(audience.MaxTTL + epoch.MaxClockStep + time.Second).UTC().Truncate(time.Second)}
	return errors.Join(
		d.tx.Delete(idKey(id)), putJSON(d.tx, goneKey(id), rec), d.tx.Put(due.Key(rec.Until, due.Gone, id), record.Present()),
	)
}

// reserveID enters an id into the index that clients and users share, or refuses it. It returns the
// first epoch of the client or user.
func (i *Issuer) reserveID(tx storage.Tx, id, kind string) (first uint64, err error) {
	if err := checkIDUnused(tx, id); err != nil {
		return 0, err
	}
	// The index alone does not decide: a lost entry must not let a new record replace another.
	if had, err := tx.GetAll(userKey(id), clientKey(id)); err != nil {
		return 0, err
	} else if had[0] != nil || had[1] != nil {
		return 0, storage.Damaged(idKey(id), "it is missing, although a client or a user has the id")
	}
	gone, err := readGone(tx, id)
	if err != nil {
		return 0, err
	}
	first = epoch.Of(i.keys.WallTime())
	if gone != nil {
		first = max(first, gone.Epoch+1)
		err = tx.Delete(goneKey(id)) // its entry in the index of the clean-up stays
	}
	return first, errors.Join(err, tx.Put(idKey(id), []byte(kind)))
}

// readGone returns nil without an error if no client or user with the id was removed lately.
func readGone(r storage.Reader, id string) (*goneRecord, error) {
	raw, err := r.Get(goneKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return record.Decode(goneKey(id), raw, (*goneRecord).possible)
}

// processDueGone deletes the record of a removed id that is no longer needed. A record that is needed
// for longer is of a later removal, which has an entry of its own.
func processDueGone(tx storage.Tx, id string, now time.Time) error {
	gone, err := readGone(tx, id)
	if gone == nil || err != nil || now.Before(gone.Until) {
		return err
	}
	return tx.Delete(goneKey(id))
}
