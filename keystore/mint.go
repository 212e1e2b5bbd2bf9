package keystore

import (
	"context"
	"crypto"
	"errors"
	"sync"

	"keymill/storage"
	"keymill/storage/audit"
)

// mintLoop makes reserves for rings that have none, one at a time, apart from the loop
// that keeps time: an RSA key takes as long as it takes.
func (r *Rings) mintLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.mint:
		}
		for _, alg := range r.cfg.Algorithms {
			if r.frozenOrStocked(alg) || ctx.Err() != nil {
				continue
			}
			if err := r.mintReserve(ctx, alg); err != nil && ctx.Err() == nil {
				r.log.Error("a key could not be made; trying again", "alg", alg, "error", err)
			}
		}
	}
}

func (r *Rings) frozenOrStocked(alg string) bool {
	return r.clock.Load().frozen || r.view.Load().rings[alg].has(r.Now(), Reserve)
}

func (r *Rings) mintReserve(ctx context.Context, alg string) error {
	key, err := generate(alg)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozenOrStocked(alg) {
		return nil
	}
	if err := r.add(ctx, alg, key); err != nil {
		return err
	}
	if err := r.reload(ctx); err != nil {
		return err
	}
	signal(r.wake) // a ring that lacked a spare publishes it now
	return nil
}

// makeMissing gives every ring a published key and, once that signs, a spare. Rings work
// at once, since an RSA key can take a second.
func (r *Rings) makeMissing(ctx context.Context) error {
	type made struct {
		alg string
		key crypto.Signer
		err error
	}
	var wg sync.WaitGroup
	out := make(chan made, 2*len(r.cfg.Algorithms))
	for _, alg := range r.cfg.Algorithms {
		for range r.lacking(alg) {
			wg.Go(func() {
				key, err := generate(alg)
				out <- made{alg, key, err}
			})
		}
	}
	wg.Wait()
	close(out)
	for m := range out {
		if m.err != nil {
			return m.err
		}
		if err := r.add(ctx, m.alg, m.key); err != nil {
			return err
		}
	}
	if err := r.reload(ctx); err != nil {
		return err
	}
	return r.settle(ctx)
}

// lacking is how many keys a ring needs before anybody may see it: one that signs and one
// that is published.
func (r *Rings) lacking(alg string) int {
	ring := r.view.Load().rings[alg]
	return max(0, 2-len(ring.Keys))
}

// add makes key the reserve of its ring, durably; settling it is the caller's.
func (r *Rings) add(ctx context.Context, alg string, key crypto.Signer) error {
	kid, err := thumbprint(key.Public())
	if err != nil {
		return err
	}
	public, err := marshalPublic(key.Public())
	if err != nil {
		return err
	}
	return r.store.Update(ctx, func(tx storage.Tx) error {
		ring, err := getRing(tx, alg)
		if err != nil {
			return err
		}
		k := newKey(kid, alg, public, ring.Cap)
		ring.Keys = append(ring.Keys, k)
		return errors.Join(
			r.putPrivate(tx, kid, key),
			putRing(tx, ring),
			audit.Append(tx, r.Now(), audit.Event{Action: "key.mint", By: system, Target: kid, Detail: map[string]string{"alg": alg}}),
		)
	})
}

func (r *Rings) putPrivate(tx storage.Tx, kid string, key crypto.Signer) error {
	der, err := marshalPrivate(key)
	if err != nil {
		return err
	}
	defer clear(der)
	sealed, err := r.vault.Seal(privateKey(kid), der)
	if err != nil {
		return err
	}
	return tx.Put(privateKey(kid), sealed)
}
