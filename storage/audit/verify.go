package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// Verify reads the whole chain, 1,000 records per View, and returns its length. With an
// error it returns the number of the first record that is wrong.
func Verify(ctx context.Context, s storage.Store) (uint64, error) {
	first, missing := beginning(ctx, s)
	if isFatal(missing) {
		return 0, missing
	}
	w := walk{at: first}
	err := w.all(ctx, s)
	if missing != nil {
		return 1, both(missing, err)
	}
	return w.at.Seq, err
}

// VerifyNewest verifies the end of the chain: the newest 1,000 records and the head, and that no record
// is missing from the beginning. It returns the number of the oldest record that it read, also with
// ErrDamaged; 1 if the log is empty. VerifyUntil verifies the records before it.
func VerifyNewest(ctx context.Context, s storage.Store) (oldest uint64, err error) {
	first, missing := beginning(ctx, s)
	if isFatal(missing) {
		return 0, missing
	}
	var before head
	err = s.View(ctx, func(r storage.Reader) (err error) {
		before, err = beforeNewest(r)
		return err
	})
	if before.Seq < first.Seq {
		before = first
	}
	w := walk{at: before}
	if err == nil {
		err = w.all(ctx, s)
	}
	return before.Seq + 1, both(missing, err)
}

// VerifyUntil verifies the records from the first that is left to number last, and that the next one
// follows; last is 0 if there is nothing to verify. After each 1,000 records it pauses for as long as they took, so that it uses at
// most half of a processor beside a running server.
func VerifyUntil(ctx context.Context, s storage.Store, last uint64) error {
	if last == 0 {
		return nil
	}
	first, missing := beginning(ctx, s)
	if isFatal(missing) {
		return missing
	}
	if last <= first.Seq {
		return nil
	}
	w := walk{at: first, last: last + 1}
	for {
		began := time.Now()
		if ended, err := w.page(ctx, s); ended || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Since(began)):
		}
	}
}

// isFatal reports whether an error is about the store and not about the log.
func isFatal(err error) bool { return err != nil && !errors.Is(err, ErrDamaged) }

// both returns the errors of the beginning and of the rest as one.
func both(missing, err error) error {
	switch {
	case missing == nil, isFatal(err):
		return err
	case err == nil:
		return missing
	}
	return fmt.Errorf("%w; %w", missing, err)
}

// beforeNewest returns the record before the newest 1,000, as the oldest of them names it.
// With ErrDamaged it says where they would begin.
func beforeNewest(r storage.Reader) (head, error) {
	damage := checkEnd(r)
	if damage != nil && !errors.Is(damage, ErrDamaged) {
		return head{}, damage
	}
	end, err := lastRecord(r)
	if err != nil {
		return head{}, err
	}
	if end.Seq <= maxPage {
		return head{}, damage
	}
	before := head{Seq: end.Seq - maxPage}
	stored, err := r.Get(logKey(before.Seq + 1))
	if isFault(err) && !errors.Is(err, storage.ErrNotFound) {
		return head{}, err
	}
	if oldest, err := decodeChained(logKey(before.Seq+1), stored); err == nil {
		before.Hash = oldest.Previous // else the walk finds that the record is missing or damaged
	}
	return before, damage
}

// A walk verifies records in their order, page by page.
type walk struct {
	at   head   // the last record that was verified; the zero value begins with the first key of the log
	last uint64 // where the walk ends; 0: at the head
}

// all verifies pages until the walk ends.
func (w *walk) all(ctx context.Context, s storage.Store) error {
	for {
		if ended, err := w.page(ctx, s); ended || err != nil {
			return err
		}
	}
}

// page verifies at most 1,000 records. With an error, w.at has the number of the record that
// is wrong.
func (w *walk) page(ctx context.Context, s storage.Store) (ended bool, err error) {
	var next head
	err = s.View(ctx, func(r storage.Reader) (err error) {
		next, ended, err = w.read(r)
		return err
	})
	w.at = next
	return ended, err
}

func (w *walk) read(r storage.Reader) (next head, ended bool, err error) {
	// The head is read in the same View, so a chain that grows does not look damaged.
	end := head{Seq: w.last}
	if w.last == 0 {
		if end, err = readHead(r); err != nil {
			return head{}, false, err
		}
	}
	next = w.at
	start := logKey(next.Seq + 1)
	if next.Seq == 0 {
		next, start = emptyHead(), logPrefix // also finds keys that sort before the first record
	}
	n := 0
	for e, err := range r.Scan(start, logEnd) {
		if isFault(err) {
			return next, false, err
		}
		if next, err = checkNext(next, e, err); err != nil {
			return next, false, err
		}
		if next.Seq == w.last {
			return next, true, nil
		}
		if n++; n == maxPage {
			return next, false, nil
		}
	}
	switch {
	case next == end:
		return next, true, nil
	case next.Seq == end.Seq:
		return next, false, fmt.Errorf("%w: record %d does not have the hash in the head", ErrDamaged, end.Seq)
	case next.Seq > end.Seq:
		last := next.Seq
		next.Seq = end.Seq + 1
		return next, false, fmt.Errorf("%w: the head says that %d is the last record, and there is record %d", ErrDamaged, end.Seq, last)
	}
	next.Seq++
	return next, false, fmt.Errorf("%w: record %d is missing at the end; %d should be the last", ErrDamaged, next.Seq, end.Seq)
}

// checkNext checks that e is the record after h. It returns the head after that record
// also with an error. damage is the error of the Scan about e.
func checkNext(h head, e storage.Entry, damage error) (head, error) {
	next := head{Seq: h.Seq + 1, Hash: hash(e.Value)}
	if damage == nil && e.Key != logKey(next.Seq) {
		return next, fmt.Errorf("%w: record %d is missing", ErrDamaged, next.Seq)
	}
	var r Record
	if damage == nil {
		r, damage = decodeChained(e.Key, e.Value)
	}
	switch {
	case damage != nil:
		return next, fmt.Errorf("%w: record %d is unreadable: %w", ErrDamaged, next.Seq, damage)
	case r.Previous != h.Hash:
		return next, fmt.Errorf("%w: record %d does not follow record %d", ErrDamaged, next.Seq, h.Seq)
	}
	return next, nil
}
