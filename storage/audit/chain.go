package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// pageRecords is how many records one transaction moves. Each touches two keys, and
// the head is one more: 63 of the 64 that an Update may touch. Read and written
// again at 4 KiB each they are 248 KiB of its 512.
const pageRecords = (storage.MaxUpdateKeys - 1) / 2

// Run moves new records into the chain once a second until ctx ends, which is no
// error. It ends earlier only if the store has failed or the chain is damaged; a
// store that is busy or full is asked again the next second.
func Run(ctx context.Context, s storage.Store) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		_, err := Chain(ctx, s)
		for _, final := range []error{storage.ErrUnknownOutcome, storage.ErrClosed, errDamaged} {
			if errors.Is(err, final) {
				return err
			}
		}
	}
}

// Chain moves what is waiting, and returns how many records it moved. It may run
// in several processes at once.
//
// A crash between two pages leaves the rest waiting. Within a page nothing can be
// lost or doubled, as a record leaves audit/new in the transaction that chains it.
func Chain(ctx context.Context, s storage.Store) (int, error) {
	moved := 0
	for {
		waiting, err := anyWaiting(ctx, s)
		if err != nil || !waiting {
			return moved, err
		}
		n := 0
		err = s.Update(ctx, func(tx storage.Tx) (err error) {
			n, err = movePage(tx)
			return err
		})
		if err != nil {
			return moved, fmt.Errorf("chain audit records: %w", err)
		}
		moved += n
		if n < pageRecords {
			return moved, nil // what came meanwhile has time until the next second
		}
	}
}

// anyWaiting keeps an idle server from asking for a turn among the writers.
func anyWaiting(ctx context.Context, s storage.Store) (waiting bool, err error) {
	err = s.View(ctx, func(r storage.Reader) error {
		waiting = false
		for _, err := range r.Scan(newPrefix, newEnd) {
			waiting = err == nil
			return err
		}
		return nil
	})
	return waiting, err
}

func movePage(tx storage.Tx) (int, error) {
	h, err := readHead(tx)
	if err != nil {
		return 0, err
	}
	n := 0
	for e, err := range tx.Scan(newPrefix, newEnd) {
		if err != nil {
			return 0, err
		}
		if h, err = move(tx, h, e); err != nil {
			return 0, err
		}
		if n++; n == pageRecords {
			break
		}
	}
	if n == 0 {
		return 0, nil // another process was faster
	}
	b, err := json.Marshal(h)
	if err != nil {
		return 0, err
	}
	return n, tx.Put(headKey, b)
}

// move takes one waiting record to the end of the chain and returns the new head.
func move(tx storage.Tx, h head, e storage.Entry) (head, error) {
	var r Record
	if err := json.Unmarshal(e.Value, &r); err != nil {
		// Somebody wrote here past Append. The chain tells of it and goes on.
		r = bounded(Event{Action: "audit.unreadable", By: "system", Target: e.Key,
			Detail: map[string]string{"bytes": string(e.Value)}})
	}
	r.Seq, r.Previous = h.Seq+1, h.Hash
	b, err := encode(r)
	if err != nil {
		return head{}, err
	}
	if err := tx.Put(logKey(r.Seq), b); err != nil {
		return head{}, err
	}
	return head{Seq: r.Seq, Hash: hash(b)}, tx.Delete(e.Key)
}

// Verify walks the whole chain, 1,000 records per View, and returns its length, or
// with an error the number at which it breaks.
func Verify(ctx context.Context, s storage.Store) (uint64, error) {
	at := head{}
	for {
		next, ended, err := verifyPage(ctx, s, at)
		if err != nil {
			return next.Seq, err
		}
		if ended {
			return next.Seq, nil
		}
		at = next
	}
}

// verifyPage goes on behind the record at, or begins if at is none.
func verifyPage(ctx context.Context, s storage.Store, at head) (next head, ended bool, err error) {
	err = s.View(ctx, func(r storage.Reader) error {
		end, err := readHead(r)
		if err != nil {
			return err
		}
		next, ended = at, true
		start := logKey(at.Seq + 1)
		if at.Seq == 0 {
			next, start = genesis(), logPrefix // whatever lies before the first counts
		}
		n := 0
		for e, err := range r.Scan(start, logEnd) {
			if err != nil {
				return err
			}
			if next, err = follow(next, e); err != nil {
				return err
			}
			if n++; n == maxPage {
				ended = false
				return nil
			}
		}
		// In the same View, so that a chain which grows meanwhile does not look broken.
		switch {
		case next == end:
			return nil
		case next.Seq == end.Seq:
			return fmt.Errorf("%w: record %d is not the one that the head names", errDamaged, end.Seq)
		}
		next.Seq++
		return fmt.Errorf("%w: it ends before record %d, the head names record %d", errDamaged, next.Seq, end.Seq)
	})
	return next, ended, err
}

// follow checks that e is the record behind h; the head it returns names that record
// in any case.
func follow(h head, e storage.Entry) (head, error) {
	next := head{Seq: h.Seq + 1, Hash: hash(e.Value)}
	var r Record
	switch err := json.Unmarshal(e.Value, &r); {
	case e.Key != logKey(next.Seq):
		return next, fmt.Errorf("%w: record %d is missing", errDamaged, next.Seq)
	case err != nil:
		return next, fmt.Errorf("%w: record %d is unreadable: %v", errDamaged, next.Seq, err)
	case r.Seq != next.Seq || r.Previous != h.Hash:
		return next, fmt.Errorf("%w: record %d does not follow record %d", errDamaged, next.Seq, h.Seq)
	}
	return next, nil
}
