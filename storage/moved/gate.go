package moved

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"keymill/storage"
)

// A Gate is a store whose Updates fail with an *Error while it has a record of this package.
type Gate struct{ storage.Store }

// Update implements storage.Store. It reads the record in the transaction of fn, so it also refuses an Update that
// began before the record was written.
func (g Gate) Update(ctx context.Context, fn func(storage.Tx) error) error {
	return g.Store.Update(ctx, func(tx storage.Tx) error {
		m, err := Read(tx)
		if err != nil {
			return err
		}
		if m != nil {
			return &Error{*m}
		}
		return fn(tx)
	})
}

const (
	// RenewEvery is how often a run renews the record of its source.
	RenewEvery = 2 * time.Second
	// FreeAfter is how long a run may not renew it before servers free the source.
	FreeAfter = time.Minute

	lookEvery = 5 * time.Second
)

// Admit returns an *Error if the store must not be served because of its record. A source whose migration does not
// renew the record any longer is freed. That takes wait: FreeAfter, or 0 if no migration can have the store,
// because its file is locked by this process. Before it waits, Admit calls waiting, which can be nil.
func Admit(ctx context.Context, s storage.Store, wait time.Duration, waiting func(Record)) error {
	m, err := Of(ctx, s)
	if err != nil || m == nil {
		return err
	}
	if m.State != Moving {
		return &Error{*m}
	}
	if wait > 0 && waiting != nil {
		waiting(*m)
	}
	for end := time.Now().Add(wait); time.Now().Before(end); {
		if err := pause(ctx, min(lookEvery, time.Until(end))); err != nil {
			return err
		}
		now, err := Of(ctx, s)
		if err != nil || now == nil {
			return err
		}
		if *now != *m {
			return &Error{*now}
		}
	}
	return freeUnchanged(ctx, s, *m)
}

// freeUnchanged frees a source if its record is still m.
func freeUnchanged(ctx context.Context, s storage.Store, m Record) error {
	return s.Update(ctx, func(tx storage.Tx) error {
		now, err := Read(tx)
		switch {
		case err != nil || now == nil:
			return err
		case *now != m:
			return &Error{*now}
		}
		return tx.Delete(storage.MovedKey)
	})
}

// Watch logs when a store that is being served is moved or freed, and frees it if its migration does not renew the record for
// FreeAfter. It returns nil when ctx ends.
func Watch(ctx context.Context, s storage.Store, log *slog.Logger) error {
	w := watch{store: s, log: log}
	for pause(ctx, lookEvery) == nil {
		w.look(ctx)
	}
	return nil
}

// A watch is what Watch has seen.
type watch struct {
	store storage.Store
	log   *slog.Logger
	last  *Record
	since time.Time // when last was first seen
}

func (w *watch) look(ctx context.Context) {
	m, err := Of(ctx, w.store)
	if err != nil {
		return // others say so
	}
	switch {
	case m == nil && w.last != nil:
		w.log.Info("the store is written again: it was not moved", "to", w.last.To)
	case m != nil && (w.last == nil || w.last.State != m.State):
		w.log.Warn((&Error{*m}).Error(), "from", m.From)
	}
	if m == nil || w.last == nil || *m != *w.last {
		w.last, w.since = m, time.Now()
		return
	}
	if m.State != Moving || time.Since(w.since) < FreeAfter {
		return
	}
	err = freeUnchanged(ctx, w.store, *m)
	if err != nil && !errors.Is(err, storage.ErrUnavailable) && !storage.Ended(w.store, err) {
		w.log.Error("the store cannot be freed from a migration that has ended", "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
