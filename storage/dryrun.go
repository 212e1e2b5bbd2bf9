package storage

import (
	"context"
	"slices"
)

// DryRun returns a Store that reads base and forgets what is written: later calls see
// the writes, base never does. The limits of an Update hold as in any Store, and there
// is no limit over several Updates. Close leaves base open. A DryRun is for one
// goroutine at a time.
func DryRun(base Store) Store { return &dryRun{base: base} }

type dryRun struct {
	base  Store
	cells []cell // of all Updates so far, each of them written
}

func (d *dryRun) View(ctx context.Context, fn func(Reader) error) error {
	return d.base.View(ctx, func(r Reader) error {
		o := d.overlay(r)
		defer o.End()
		return fn(o)
	})
}

func (d *dryRun) Update(ctx context.Context, fn func(Tx) error) error {
	return d.base.View(ctx, func(r Reader) error {
		kept := d.overlay(r)
		defer kept.End()
		tx := NewOverlay(kept)
		defer tx.End()
		if err := fn(tx); err != nil {
			return err
		}
		if err := tx.Err(); err != nil {
			return err
		}
		for w := range tx.Writes() {
			if err := kept.write(w.Key, w.Value, w.Deleted); err != nil {
				return err
			}
		}
		d.cells = slices.DeleteFunc(kept.cells, func(c cell) bool { return !c.written })
		return nil
	})
}

func (d *dryRun) Close() error { return nil }

// overlay returns an Overlay with the writes so far.
func (d *dryRun) overlay(r Reader) *Overlay {
	o := NewOverlay(r)
	o.cells = slices.Clone(d.cells)
	o.unlimited = true
	return o
}
