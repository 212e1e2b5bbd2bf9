package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"keymill/storage"
)

const leasePrefix = "lease/"

// A leaseRecord is a record lease/<name>.
type leaseRecord struct {
	Node     string    `json:"node"`
	Renewals uint64    `json:"renewals"` // grows with every renewal, and from holder to holder
	Until    time.Time `json:"until"`    // for people: 3p after the renewal, by the wall clock of the holder
}

func decodeLease(key string, raw []byte) (leaseRecord, error) {
	var rec leaseRecord
	if err := storage.DecodeJSON(key, raw, &rec); err != nil {
		return leaseRecord{}, err
	}
	if !validID(strings.TrimPrefix(key, leasePrefix)) || !validID(rec.Node) || rec.Renewals == 0 || !storage.PossibleTime(rec.Until) {
		return leaseRecord{}, storage.Damaged(key, "its name or a value is impossible")
	}
	return rec, nil
}

// A lease is what a Registry knows of one lease.
type lease struct {
	mu      sync.Mutex
	looked  time.Time // when the record was read last
	renewed time.Time // before the last own renewal; zero if another node holds the lease

	other leaseRecord // as it was read last; zero if it was damaged
	since time.Time   // since when other did not change
}

// A turn is the result of one look at a lease.
type turn struct {
	held  bool
	other leaseRecord
}

// Hold takes the lease, or renews it, and reports whether this node holds it. It reads the store once in p, so
// a loop may call it as often as it likes, and must call it at least once in 2p to keep the lease.
// With an error the node does not hold it.
func (r *Registry) Hold(ctx context.Context, s storage.Store, name string) (bool, error) {
	if r == nil {
		return true, nil
	}
	known, _ := r.leases.LoadOrStore(name, new(lease))
	l := known.(*lease)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.looked.IsZero() && now.Sub(l.looked) < r.poll {
		return !l.renewed.IsZero(), nil
	}
	var out turn
	err := s.Update(ctx, func(tx storage.Tx) (err error) {
		out, err = r.takeTurn(tx, name, l, now)
		return err
	})
	if err != nil {
		l.renewed = time.Time{}
		return false, err
	}
	if l.looked = now; out.held {
		l.renewed, l.since = now, time.Time{}
		return true, nil
	}
	l.renewed = time.Time{}
	if out.other != l.other || l.since.IsZero() {
		l.other, l.since = out.other, now
	}
	return false, nil
}

// Lease returns Hold for one lease, as a function for a package that does not know nodes.
func (r *Registry) Lease(s storage.Store, name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) { return r.Hold(ctx, s, name) }
}

// takeTurn writes the lease if it is free, the own one, or was not renewed for 3p.
func (r *Registry) takeTurn(tx storage.Tx, name string, l *lease, now time.Time) (turn, error) {
	key := leasePrefix + name
	var rec leaseRecord
	raw, err := tx.Get(key)
	if err == nil {
		rec, err = decodeLease(key, raw)
	}
	free := errors.Is(err, storage.ErrNotFound) || rec.Node == r.id
	if err != nil && !free && !errors.Is(err, storage.ErrDamaged) {
		return turn{}, err
	}
	lapsed := !l.since.IsZero() && rec == l.other && now.Sub(l.since) >= liveFor*r.poll
	if !free && !lapsed {
		return turn{other: rec}, nil
	}
	raw, err = json.Marshal(leaseRecord{r.id, rec.Renewals + 1, r.wallTime().Add(liveFor * r.poll)})
	if err != nil {
		return turn{}, err
	}
	return turn{held: true}, tx.Put(key, raw)
}

// Release gives back the leases that this node holds, at a clean stop.
func (r *Registry) Release(ctx context.Context, s storage.Store) error {
	if r == nil {
		return nil
	}
	var errs []error
	for name, known := range r.leases.Range {
		l := known.(*lease)
		l.mu.Lock()
		held := !l.renewed.IsZero()
		l.renewed = time.Time{}
		l.mu.Unlock()
		if held {
			errs = append(errs, s.Update(ctx, func(tx storage.Tx) error { return r.giveBack(tx, leasePrefix+name.(string)) }))
		}
	}
	return errors.Join(errs...)
}

func (r *Registry) giveBack(tx storage.Tx, key string) error {
	raw, err := tx.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if rec, err := decodeLease(key, raw); err != nil || rec.Node != r.id {
		return err
	}
	return tx.Delete(key)
}
