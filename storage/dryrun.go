package storage

import (
	"context"
	"slices"
)

// DryRun returns a Store over base that never writes to base. Later calls see the writes of
// earlier ones, and all of them are lost with the Store. The limits apply to each Update as
// in any Store, but not to all Updates together. Close leaves base open. The Store must
// not be used from two goroutines at once.
func DryRun(base Store) Store { return &dryRun{base: base} }

type dryRun struct {
	base   Store
	states []keyState // the writes of all Updates so far
}

// View gives fn the state of base with the writes so far.
func (d *dryRun) View(ctx context.Context, fn func(Reader) error) error {
	return d.base.View(ctx, func(r Reader) error {
		o := d.overlay(r)
		defer o.End()
		return fn(o)
	})
}

// Update keeps the writes of fn in memory. It runs in a View of base, so fn sees one state.
func (d *dryRun) Update(ctx context.Context, fn func(Tx) error) error {
	var states []keyState
	err := d.base.View(ctx, func(r Reader) error {
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
		states = slices.DeleteFunc(kept.states, func(k keyState) bool { return !k.written })
		return nil
	})
	if err == nil {
		d.states = states // only now: the View may run fn more than once
	}
	return err
}

// Status returns that of base.
func (d *dryRun) Status() Status { return d.base.Status() }

// Close leaves base open.
func (d *dryRun) Close() error { return nil }

// overlay returns an Overlay without limits that holds the writes so far.
func (d *dryRun) overlay(r Reader) *Overlay {
	o := NewUnlimitedOverlay(r)
	o.states = slices.Clone(d.states)
	return o
}
