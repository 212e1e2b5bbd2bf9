package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"keymill/storage"
)

// created is the action of the first record of every log: the transaction that makes a store appends it.
// So a log that has no record 1, or another one, has lost its beginning.
const created = "store.create"

// beginning returns the place before the first record that is left, from which a walk begins, and with
// ErrDamaged what is missing before it.
func beginning(ctx context.Context, s storage.Store) (before head, err error) {
	err = s.View(ctx, func(r storage.Reader) (err error) {
		before, err = readBeginning(r)
		return err
	})
	return before, err
}

func readBeginning(r storage.Reader) (before head, err error) {
	stored, err := r.Get(logKey(1))
	switch {
	case err == nil:
		return head{}, checkFirst(stored)
	case errors.Is(err, storage.ErrNotFound):
		return readWithoutFirst(r)
	case isFault(err):
		return head{}, err
	}
	return head{}, nil // a walk finds that record 1 is damaged
}

// checkFirst checks the action of record 1. A walk finds what else can be wrong with it.
func checkFirst(stored []byte) error {
	first, err := decodeChained(logKey(1), stored)
	if err != nil || first.Action == created {
		return nil
	}
	return fmt.Errorf("%w: the earlier log is missing: record 1 is %s of %s, and the first record of every store is %s",
		ErrDamaged, first.Action, first.Time.Format(time.RFC3339), created)
}

// readWithoutFirst says what is missing from a log without record 1. In a new store the record waits for
// the chain.
func readWithoutFirst(r storage.Reader) (before head, err error) {
	left, stored, err := firstWhole(r, 2)
	if err != nil {
		return head{}, err
	}
	if left != 0 {
		before.Seq = left - 1
		if first, err := decodeChained(logKey(left), stored); err == nil {
			before.Hash = first.Previous
		}
		return before, fmt.Errorf("%w: %s missing from the beginning; the first one that is left is number %d", ErrDamaged, upTo(before.Seq), left)
	}
	end, err := readHead(r)
	switch {
	case err != nil && !errors.Is(err, ErrDamaged):
		return head{}, err
	case end.Seq > 0:
		return end, fmt.Errorf("%w: %s missing from the beginning; none is left, and the head says that %d is the last", ErrDamaged, upTo(end.Seq), end.Seq)
	}
	waits, err := waitingCreated(r)
	if err == nil && waits == nil {
		err = fmt.Errorf("%w: all records are missing: %s, the first record of every store, is neither in the log nor waiting for it", ErrDamaged, created)
	}
	return head{}, err
}

func upTo(seq uint64) string {
	if seq == 1 {
		return "record 1 is"
	}
	return fmt.Sprintf("records 1 to %d are", seq)
}

// waitingCreated returns the first record of the log if it waits for the chain, and nil otherwise.
func waitingCreated(r storage.Reader) (*waiting, error) {
	for e, err := range r.Scan(newPrefix, newEnd) {
		if isFault(err) {
			return nil, err
		}
		if err != nil || !bytes.Contains(e.Value, []byte(created)) {
			continue
		}
		if record, err := decodeNew(e.Key, e.Value); err == nil && record.Action == created {
			return &waiting{e.Key, e.Value, record}, nil
		}
	}
	return nil, nil
}

// createdFirst puts the first record of the log before all others of the first page. The wall clock may
// have been set back since the store was made, and then their times are earlier.
func createdFirst(r storage.Reader, page []waiting) ([]waiting, error) {
	if end, err := readHead(r); err != nil || end.Seq > 0 {
		return page, nil // checkEnd says what is wrong with a head
	}
	first, err := waitingCreated(r)
	if err != nil || first == nil {
		return page, err
	}
	page = slices.DeleteFunc(page, func(w waiting) bool { return w.key == first.key })
	return append([]waiting{*first}, page[:min(len(page), pageRecords-1)]...), nil
}
