package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// pageRecords is how many records one transaction moves. Each touches two keys and the
// head is one more, which makes 63 of the 64 keys that an Update may touch. Reading and
// writing them at 4 KiB each is 248 KiB of the 512 that it may touch.
const pageRecords = (storage.MaxUpdateKeys - 1) / 2

// Run moves new records into the chain once a second. It returns nil when ctx ends, and
// an error when the store has failed. After any other error, for example of a full disk, it
// tries again a second later.
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
		if errors.Is(err, storage.ErrUnknownOutcome) || errors.Is(err, storage.ErrBroken) || errors.Is(err, storage.ErrClosed) {
			return err
		}
	}
}

// Chain moves all new records into the chain and returns how many it moved. Several
// processes may call it at once.
//
// A crash between two pages leaves the remaining records in audit/new for the next call.
// No record is lost or chained twice, because the transaction that adds it to the chain
// also deletes it from audit/new.
func Chain(ctx context.Context, s storage.Store) (int, error) {
	moved := 0
	for {
		waiting, err := hasNew(ctx, s)
		if err != nil || !waiting {
			return moved, err
		}
		n := 0
		err = s.Update(ctx, func(tx storage.Tx) (err error) {
			n, err = movePage(tx)
			return err
		})
		if errors.Is(err, ErrDamaged) {
			// Only the end of the chain can be the reason, and after mend it is right.
			if err = mend(ctx, s); err == nil {
				continue
			}
		}
		if err != nil {
			return moved, fmt.Errorf("chain audit records: %w", err)
		}
		moved += n
		if n < pageRecords {
			return moved, nil // newer records wait for the next call
		}
	}
}

// hasNew reports whether there is anything to chain. It saves an idle server one Update a
// second.
func hasNew(ctx context.Context, s storage.Store) (waiting bool, err error) {
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
	h, err := endOfChain(tx)
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
		return 0, nil // another process has moved them
	}
	b, err := json.Marshal(h)
	if err != nil {
		return 0, err
	}
	return n, tx.Put(headKey, b)
}

// move moves one new record to the end of the chain and returns the new head.
func move(tx storage.Tx, h head, e storage.Entry) (head, error) {
	// If Append did not write this, the chain says so and continues, because an error would keep
	// all later records out of the chain.
	r := decode(e)
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
