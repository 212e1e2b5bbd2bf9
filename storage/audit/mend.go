package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// checkEnd returns ErrDamaged if the chain cannot continue after its head: if the head is unreadable, if
// there is a whole record after it, or if there is any record under the numbers of the next page, which
// would be overwritten. A head that was deleted looks like that of an empty chain. checkEnd reads more
// than an Update may.
func checkEnd(r storage.Reader) error {
	h, err := readHead(r)
	if err != nil {
		return err
	}
	seq, _, err := firstWhole(r, h.Seq+1)
	switch {
	case err != nil:
		return err
	case seq != 0:
		return errBehind(h, seq)
	}
	return checkFree(r, h, pageRecords)
}

// checkFree returns ErrDamaged if there is a record under one of the n numbers after the head.
func checkFree(r storage.Reader, h head, n int) error {
	seq, err := lastTaken(r, h.Seq, n)
	if err == nil && seq != 0 {
		err = errBehind(h, seq)
	}
	return err
}

func errBehind(h head, seq uint64) error {
	return fmt.Errorf("%w: the head says that %d is the last record, and there is record %d", ErrDamaged, h.Seq, seq)
}

// mend writes a new head, and adds a record that says why and holds what was left of the old head. It
// changes no other record. at is the time of that record.
//
// The chain continues after its last record, with the first number that a whole page of free numbers
// follows. So damaged records that were inserted behind the end keep their numbers, and one that was
// inserted far behind the end makes no gap.
func mend(ctx context.Context, s storage.Store, damage error, at time.Time) error {
	var last head
	var old []byte
	err := s.View(ctx, func(r storage.Reader) (err error) {
		if old, err = headBytes(r); err != nil {
			return err
		}
		if last, err = lastRecord(r); err != nil {
			return err
		}
		for {
			seq, err := lastTaken(r, last.Seq, 1+pageRecords)
			if err != nil || seq == 0 {
				return err
			}
			last = head{Seq: seq, Hash: emptyHead().Hash}
		}
	})
	if err != nil {
		return err
	}
	return s.Update(ctx, func(tx storage.Tx) error {
		now, err := headBytes(tx)
		if err != nil || !bytes.Equal(now, old) {
			return err // nil if another process has mended it
		}
		if seq, err := lastTaken(tx, last.Seq, 1); err != nil || seq != 0 {
			return err // nil: the caller looks again
		}
		return addDamaged(tx, last, at, map[string]string{"error": damage.Error(), "head": string(old)})
	})
}

// headBytes returns what is left of the head: nil if it is missing or its tag does not fit.
func headBytes(r storage.Reader) ([]byte, error) {
	b, err := r.Get(headKey)
	if isFault(err) && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	return b, nil
}

// addDamaged adds a record of damage after last.
func addDamaged(tx storage.Tx, last head, at time.Time, detail map[string]string) error {
	r := bounded(Event{Action: "audit.damaged", By: system, Detail: detail})
	r.Time, r.Seq, r.Previous = at, last.Seq+1, last.Hash
	b, err := encode(r)
	if err != nil {
		return err
	}
	h, err := json.Marshal(head{Seq: r.Seq, Hash: hash(b)})
	if err != nil {
		return err
	}
	return errors.Join(tx.Put(logKey(r.Seq), b), tx.Put(headKey, h))
}
