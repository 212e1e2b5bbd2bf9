package keystore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"keymill/keystore/internal/libcrypto"
	"keymill/keystore/internal/signing"
	"keymill/storage"
)

// Reload reads the keys again. It is for callers of RaiseMaxLifetime, after the commit.
func (r *Rings) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reloadAny(ctx)
}

// reloadAny reads the keys again, of a store with any number of servers.
func (r *Rings) reloadAny(ctx context.Context) error {
	if r.cfg.Nodes != nil {
		return r.poll(ctx)
	}
	return r.reload(ctx)
}

// reload replaces the snapshot with the committed keys. It keeps the private halves that
// are in memory, except those of keys that have stopped. After an error the keys in memory stay in
// use: a record that was lost must not remove a key from the published set.
func (r *Rings) reload(ctx context.Context) error {
	now := r.Now()
	next, err := r.load(ctx, now)
	if err != nil {
		return err
	}
	return r.publish(next, now)
}

// load reads the committed keys, for publish.
func (r *Rings) load(ctx context.Context, now time.Time) (*snapshot, error) {
	r.stale = true
	old := r.snapshot.Load()
	next, err := r.readKeys(ctx)
	if err != nil {
		return nil, err
	}
	sealed, err := r.readPrivate(ctx, old, next, now)
	if err != nil {
		return nil, err
	}
	// Nothing is published before every private half is known to belong to its public half.
	err = r.openSigners(next, sealed)
	if err == nil && len(old.published) == 0 {
		err = r.checkPrivate(ctx, next)
	}
	if err != nil {
		next.erase(old)
		return nil, err
	}
	return next, nil
}

// readKeys reads the rings and the retired keys, in the comparison with the manifest.
func (r *Rings) readKeys(ctx context.Context) (*snapshot, error) {
	next := &snapshot{rings: make(map[string]ring), signers: make(map[string]*signing.Signer)}
	for _, alg := range SupportedAlgorithms() {
		next.rings[alg] = ring{Alg: alg}
	}
	records, err := r.store.ReadBelow(ctx, "ring/", "retired/")
	if err != nil {
		return nil, err
	}
	for _, e := range records {
		_, name, _ := strings.Cut(e.Key, "/")
		alg, _, retired := strings.Cut(name, "/")
		switch _, supported := next.rings[alg]; {
		case !supported: // by this version of the program
		case retired:
			var k Key
			k, err = decodeRetired(alg, e)
			next.retired = append(next.retired, k)
		default:
			next.rings[alg], err = decodeRing(alg, e.Value)
		}
		if err != nil {
			return nil, err
		}
	}
	return next, nil
}

// readPrivate moves the private halves of spare and active keys that are in memory to next, and returns those that
// are not, sealed, by kid. Keys change under mu, so these are still the keys of the rings.
func (r *Rings) readPrivate(ctx context.Context, old, next *snapshot, now time.Time) (map[string][]byte, error) {
	sealed := make(map[string][]byte)
	return sealed, r.store.View(ctx, func(tx storage.Reader) (err error) {
		for _, alg := range SupportedAlgorithms() {
			for _, k := range next.rings[alg].Keys {
				if k.Stage(now) == Reserve {
					continue
				}
				if s := old.signers[k.KID]; s != nil && libcrypto.Usable(s.Private()) {
					next.signers[k.KID] = s
				} else if sealed[k.KID], err = tx.Get(privateKey(k.KID)); err != nil {
					return fmt.Errorf("read the private half of %s: %w", k.KID, missingPrivate(k, err))
				}
			}
		}
		return nil
	})
}
