package nodes

import (
	"context"
	"errors"
	"time"

	"keymill/storage"
)

const (
	forgetAfter = 24 * time.Hour
	forgetBatch = 16 // records that one transaction removes
)

// Forget removes the records of nodes that have not beaten for a day, and damaged ones that were not written again for
// a day. The node that cleans up calls it now and then, after Read.
func (r *Registry) Forget(ctx context.Context, s storage.Store) error {
	if r == nil {
		return nil
	}
	old := r.old()
	for len(old) > 0 && ctx.Err() == nil {
		some := old[:min(len(old), forgetBatch)]
		old = old[len(some):]
		err := s.Update(ctx, func(tx storage.Tx) error {
			for _, n := range some {
				if err := n.forget(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// old returns the nodes to forget, without beats where the record is damaged. The wall clock alone removes none
// that is live.
func (r *Registry) old() (old []Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wall := r.wallTime()
	for _, s := range r.seen {
		known := r.read.Sub(s.first)
		if r.isLive(s, r.read, wall) || known <= liveFor*r.poll || known < forgetAfter && wall.Sub(s.node.Time) < forgetAfter {
			continue
		}
		if s.changed.IsZero() || r.read.Sub(s.changed) >= forgetAfter {
			old = append(old, s.node)
		}
	}
	for id, since := range r.broken {
		if r.read.Sub(since) >= forgetAfter {
			old = append(old, Node{ID: id})
		}
	}
	return old
}

// forget removes the record unless the node wrote it again.
func (n Node) forget(tx storage.Tx) error {
	key := nodePrefix + n.ID
	now, err := readRecord(tx, key)
	damaged := errors.Is(err, storage.ErrDamaged)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil
	case err != nil && !damaged:
		return err
	case damaged != (n.Beats == 0), now.Beats != n.Beats && !damaged:
		return nil
	}
	return tx.Delete(key)
}
