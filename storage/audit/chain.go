package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"keymill/storage"
)

// pageRecords is how many records one transaction moves. Each touches two keys and the
// head is one more, which makes 63 of the 64 keys that an Update may touch. Reading and
// writing them at 4 KiB each is 248 KiB of the 512 that it may touch.
const pageRecords = (storage.MaxUpdateKeys - 1) / 2

// RunConfig is what Run needs.
type RunConfig struct {
	Log *slog.Logger

	// Damaged gets the error of each damaged record that waits, again and again. It may be nil.
	Damaged func(error)

	// Hold reports whether this server chains, see nodes.Registry.Lease. It is called at least once a second, and before
	// each batch. nil if it is the only server of the store.
	Hold func(context.Context) (bool, error)
}

// Run moves new records into the chain once a second, while this server holds the lease. It returns nil when ctx
// ends, and an error when the store has failed. After any other error, for example of a full disk, it
// tries again a second later, and logs the error once.
func Run(ctx context.Context, s storage.Store, cfg RunConfig) error {
	c := chainer{store: s, damaged: cfg.Damaged, hold: cfg.Hold}
	fault := ""
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		_, held, err := c.moveAll(ctx)
		if storage.Ended(s, err) {
			return err
		}
		switch {
		case ctx.Err() != nil, errors.Is(err, storage.ErrMoved):
		case err == nil && !held:
			fault = "" // only the server that chains knows whether it works again
		default:
			fault = report(cfg.Log, fault, err)
		}
	}
}

// report logs err if it is not the fault that was logged last, and that a fault has ended. It returns
// the fault of now.
func report(log *slog.Logger, last string, err error) string {
	if err == nil {
		if last != "" {
			log.Info("audit records are added to the chain again")
		}
		return ""
	}
	if err.Error() != last {
		log.Error("audit records cannot be added to the chain; they stay in the store and are tried again every second", "error", err)
	}
	return err.Error()
}

// Chain moves all new records into the chain and returns how many it moved. Several
// processes may call it at once, and while another one runs Run.
//
// A crash between two pages leaves the remaining records in audit/new for the next call.
// No record is lost or chained twice, because the transaction that adds it to the chain
// also deletes it from audit/new. A damaged record is left where it is.
func Chain(ctx context.Context, s storage.Store) (int, error) {
	c := chainer{store: s}
	moved, _, err := c.moveAll(ctx)
	return moved, err
}

// A chainer moves records. damaged and hold may be nil.
type chainer struct {
	store   storage.Store
	damaged func(error)
	hold    func(context.Context) (bool, error)
}

// holds reports whether this server moves the next page.
func (c chainer) holds(ctx context.Context) (bool, error) {
	if c.hold == nil {
		return true, nil
	}
	return c.hold(ctx)
}

// moveAll moves page after page. held is false if another server holds the lease: it moves what is left.
func (c chainer) moveAll(ctx context.Context) (moved int, held bool, err error) {
	after := newPrefix
	for {
		if held, err = c.holds(ctx); err != nil || !held {
			return moved, held, err
		}
		page, end, err := c.readPage(ctx, after)
		if err != nil || len(page) == 0 {
			return moved, held, err
		}
		if end != nil {
			if err := mend(ctx, c.store, end, page[0].record.Time); err != nil {
				return moved, held, fmt.Errorf("continue a damaged audit log: %w", err)
			}
			continue
		}
		n := 0
		err = c.store.Update(ctx, func(tx storage.Tx) (err error) {
			n, err = movePage(tx, page)
			return err
		})
		if errors.Is(err, ErrDamaged) {
			continue // the end was damaged after the View, and the next View sees it
		}
		if err != nil {
			return moved, held, fmt.Errorf("chain audit records: %w", err)
		}
		moved += n
		if after = page[len(page)-1].key + " "; len(page) < pageRecords {
			return moved, held, nil // newer records wait for the next call
		}
	}
}

// A waiting is a record that waits for the chain.
type waiting struct {
	key    string
	value  []byte
	record Record
}

// readPage finds the records of one Update in a View, which may read more than an Update: damaged
// records and other keys must not use up its limits. So end, what is wrong with the end of the chain, is
// found there too. It also saves an idle server one Update a second.
func (c chainer) readPage(ctx context.Context, start string) (page []waiting, end, err error) {
	var found []error
	err = c.store.View(ctx, func(r storage.Reader) (err error) {
		page, found, end = nil, nil, nil
		for e, err := range r.Scan(start, newEnd) {
			if isFault(err) {
				return err
			}
			w := waiting{key: e.Key, value: e.Value}
			if err == nil {
				w.record, err = decodeNew(e.Key, e.Value)
			}
			if err != nil {
				found = append(found, err)
				continue
			}
			if page = append(page, w); len(page) == pageRecords {
				break
			}
		}
		if len(page) == 0 {
			return nil
		}
		if end = checkEnd(r); end != nil && !errors.Is(end, ErrDamaged) {
			return end
		}
		page, err = createdFirst(r, page)
		return err
	})
	for _, err := range found {
		if c.damaged != nil {
			c.damaged(err)
		}
	}
	return page, end, err
}

// movePage moves records to the end of the chain, except those that another process has moved or
// that were damaged since. It returns ErrDamaged instead of writing over any record.
func movePage(tx storage.Tx, page []waiting) (int, error) {
	h, err := readHead(tx)
	if err != nil {
		return 0, err
	}
	if err := checkFree(tx, h, len(page)); err != nil {
		return 0, err
	}
	n := 0
	for _, w := range page {
		value, err := tx.Get(w.key)
		switch {
		case isFault(err) && !errors.Is(err, storage.ErrNotFound):
			return 0, err
		case err != nil || !bytes.Equal(value, w.value):
			continue
		}
		if h, err = move(tx, h, w); err != nil {
			return 0, err
		}
		n++
	}
	if n == 0 {
		return 0, nil
	}
	b, err := json.Marshal(h)
	if err != nil {
		return 0, err
	}
	return n, tx.Put(headKey, b)
}

// move moves one record to the end of the chain and returns the new head.
func move(tx storage.Tx, h head, w waiting) (head, error) {
	r := w.record
	r.Seq, r.Previous = h.Seq+1, h.Hash
	b, err := encode(r)
	if err != nil {
		return head{}, err
	}
	if err := tx.Put(logKey(r.Seq), b); err != nil {
		return head{}, err
	}
	return head{Seq: r.Seq, Hash: hash(b)}, tx.Delete(w.key)
}
