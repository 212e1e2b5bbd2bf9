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
// that keeps time: an RSA key takes as long as it takes. A key that could not be stored
// is kept for the next try.
func (r *Rings) mintLoop(ctx context.Context) {
	made := make(map[string]crypto.Signer) // alg → waiting to be stored
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.mint:
		}
		var failed error
		for _, alg := range r.cfg.Algorithms {
			if r.stocked(alg) || ctx.Err() != nil {
				continue
			}
			failed = errors.Join(failed, r.mintReserve(ctx, alg, made))
		}
		if failed != nil && ctx.Err() == nil && !failing {
			r.log.Error("a key could not be made; trying again", "error", failed)
		}
		failing = failed != nil
	}
}

func (r *Rings) stocked(alg string) bool {
	return r.view.Load().rings[alg].has(r.Now(), Reserve)
}

func (r *Rings) mintReserve(ctx context.Context, alg string, made map[string]crypto.Signer) error {
	if made[alg] == nil {
		key, err := generate(alg)
		if err != nil {
			return err
		}
		made[alg] = key
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stocked(alg) {
		delete(made, alg)
		return nil
	}
	if err := r.add(ctx, alg, made[alg]); err != nil {
		return err
	}
	delete(made, alg)
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

// add makes key the reserve of its ring, durably. A ring that must sign at once does so
// from here on, even while the clock is frozen; all else is for settle.
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
		before, err := getRing(tx, alg)
		if err != nil {
			return err
		}
		k, now := newKey(kid, alg, public, before.Cap), r.Now()
		after := before.clone()
		after.Keys = append(after.Keys, k)
		if before.AtOnce {
			err = r.change(tx, before, after, now, system)
		} else {
			err = putRing(tx, after)
		}
		event := keyEvent("key.mint", k)
		event.By = system
		return errors.Join(err, r.putPrivate(tx, kid, key), audit.Append(tx, now, event))
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
