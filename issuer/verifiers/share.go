package verifiers

import (
	"cmp"
	"context"
	"errors"
	"time"

	"keymill/issuer/record"
	"keymill/storage"
)

// Refresh reads what the other servers of a shared store have written: verifiers that were added or removed there, and what
// they served. It does nothing on a store with one server. A rotation by hand calls it before it asks CheckServed.
func (r *Registry) Refresh(ctx context.Context) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	return r.refresh(ctx)
}

// refresh is Refresh while changing is held, so that nothing is added, removed or written in between.
func (r *Registry) refresh(ctx context.Context) error {
	if r.cfg.Keys.Poll() == 0 {
		return nil
	}
	cfg := r.cfg
	cfg.Damaged = func(error) {} // known since Open, or found by the next one
	stored, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	r.tags, r.warned, r.noBehind = stored.tags, stored.warned, stored.noBehind
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.pinned {
		if stored.pinned[name] == nil {
			delete(r.pinned, name)
		}
	}
	for name, other := range stored.pinned {
		if p := r.pinned[name]; p == nil || !p.added.Equal(other.added) {
			r.pinned[name] = other
		} else {
			p.adopt(other)
		}
	}
	return nil
}

// writeEvery is how often a record is written at most.
func (r *Registry) writeEvery() time.Duration { return cmp.Or(r.cfg.Keys.Poll(), writeEvery) }

// adopt takes over what another server has served later.
func (p *pinned) adopt(other *pinned) {
	p.damaged = other.damaged
	if other.kids == nil || p.kids != nil && !other.last.After(p.last) {
		return
	}
	p.kids, p.last, p.lastUp, p.stored, p.habit = other.kids, other.last, max(p.lastUp, other.lastUp), other.stored, other.habit
	p.changed = false
}

// isOver reports whether another server has removed the verifier of a draft, or has served it later.
func (d draft) isOver(tx storage.Tx) (bool, error) {
	found, err := tx.GetAll(nameKey(d.of.name), servedKey(d.of.name))
	if err != nil || found[0] == nil || found[1] == nil {
		return err == nil && found[0] == nil, err
	}
	rec, err := record.Decode(servedKey(d.of.name), found[1], (*servedRecord).possible)
	return err == nil && rec.Last.After(d.record.Last), err
}

// isWarned reports whether another server has warned of the spare.
func isWarned(tx storage.Tx, alg, kid string) (bool, error) {
	raw, err := tx.Get(behindKey)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrDamaged) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	rec, err := record.Decode(behindKey, raw, (*behindRecord).possible)
	return err == nil && (*rec)[alg] == kid, nil
}
