package audit

import (
	"context"
	"encoding/json"
	"errors"

	"keymill/storage"
)

// writtenKey is the key of the record that remembers how far the chain was written to a place outside of the
// store. It follows from what was written, and it decides only which lines are written next.
const writtenKey = "audit/written"

type written struct {
	Seq uint64 `json:"seq"`
}

// Written returns the number of the last record that SetWritten has remembered; 0 if there is none, or if it is
// damaged. Then the caller begins with the first record again: writing a record twice loses nothing.
func Written(ctx context.Context, s storage.Store) (uint64, error) {
	var seq uint64
	err := s.View(ctx, func(r storage.Reader) (err error) {
		seq, err = readWritten(r)
		return err
	})
	return seq, err
}

// SetWritten remembers that the records up to number seq were written, if the last number is still before, which
// Written or SetWritten has returned. Otherwise another server has written records, and SetWritten changes nothing. It returns
// the number that is remembered now.
func SetWritten(ctx context.Context, s storage.Store, before, seq uint64) (uint64, error) {
	b, err := json.Marshal(written{seq})
	if err != nil {
		return before, err
	}
	now := before
	err = s.Update(ctx, func(tx storage.Tx) error {
		last, err := readWritten(tx)
		if now = last; err != nil || last != before {
			return err
		}
		now = seq
		return tx.Put(writtenKey, b)
	})
	if err != nil {
		return before, err
	}
	return now, nil
}

// readWritten returns 0 if there is no record, or if it is damaged.
func readWritten(r storage.Reader) (uint64, error) {
	b, err := r.Get(writtenKey)
	if err != nil {
		if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrDamaged) {
			return 0, nil
		}
		return 0, err
	}
	seq, err := decodeWritten(b)
	if err != nil {
		return 0, nil
	}
	return seq, nil
}

func decodeWritten(value []byte) (uint64, error) {
	var w written
	if err := storage.DecodeJSON(writtenKey, value, &w); err != nil {
		return 0, err
	}
	if w.Seq == 0 || w.Seq > maxSeq {
		return 0, storage.Damaged(writtenKey, "its number is impossible")
	}
	return w.Seq, nil
}
