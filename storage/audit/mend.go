package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keymill/storage"
)

// endOfChain returns the head, to which the next record is added. It returns ErrDamaged if
// the head is unreadable or if there are records after it, which the next one would
// overwrite. A head that was deleted looks like that of an empty chain.
func endOfChain(r storage.Reader) (head, error) {
	h, err := readHead(r)
	if err != nil {
		return head{}, err
	}
	seq, _, err := firstFrom(r, h.Seq+1)
	if err == nil && seq != 0 {
		err = fmt.Errorf("%w: the head says that %d is the last record, and there is record %d", ErrDamaged, h.Seq, seq)
	}
	return h, err
}

// mend writes a new head for the records that are there, and adds a record that says why and
// holds what was left of the old head. It changes no other record. at is the time of that record.
func mend(ctx context.Context, s storage.Store, at time.Time) error {
	var last head
	// The search reads more than an Update may.
	err := s.View(ctx, func(r storage.Reader) (err error) {
		last, err = lastRecord(r)
		return err
	})
	if err != nil {
		return err
	}
	return s.Update(ctx, func(tx storage.Tx) error {
		_, damage := endOfChain(tx)
		if !errors.Is(damage, ErrDamaged) {
			return damage // nil if another process has mended it
		}
		old, err := tx.Get(headKey)
		if isFault(err) && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		return addDamaged(tx, last, at, map[string]string{"error": damage.Error(), "head": string(old)})
	})
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

// lastRecord returns the end of the chain as the records themselves show it. It finds the
// last one by bisection, because a Scan has one direction only.
func lastRecord(r storage.Reader) (head, error) {
	last := emptyHead()
	// Before each step the last record has a number below last.Seq + 2 * step.
	for step := uint64(maxSeq); step > 0; step /= 2 {
		seq, stored, err := firstFrom(r, last.Seq+step)
		if err != nil {
			return head{}, err
		}
		switch {
		case seq == 0:
		case stored == nil: // it is damaged and counts, so that it is not overwritten
			last = head{Seq: seq, Hash: emptyHead().Hash}
		default:
			last = head{Seq: seq, Hash: hash(stored)}
		}
	}
	return last, nil
}

// maxForged is the highest number at which a record whose tag does not fit counts. Otherwise one with
// the highest number of all would leave the chain no number.
const maxForged = maxSeq / 2

// firstFrom returns the first record whose number is at least seq; 0 if there is none. Its bytes are
// nil if its tag does not fit. It skips keys that this package does not write.
func firstFrom(r storage.Reader, seq uint64) (uint64, []byte, error) {
	for e, damage := range r.Scan(logKey(seq), logEnd) {
		if isFault(damage) {
			return 0, nil, damage
		}
		n, err := strconv.ParseUint(strings.TrimPrefix(e.Key, logPrefix), 10, 64)
		if err == nil && n <= maxSeq && e.Key == logKey(n) && (damage == nil || n <= maxForged) {
			return n, e.Value, nil
		}
	}
	return 0, nil, nil
}
