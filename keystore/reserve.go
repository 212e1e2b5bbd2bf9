package keystore

import (
	"context"
	"crypto"
	"errors"
	"sync"
	"time"

	"keymill/keystore/internal/keytype"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
)

// reserveLoop makes reserves for rings without one. It is not part of Run's loop, because
// generating an RSA key can take seconds, and a scheduled rotation must not wait for it. A
// key that could not be stored is kept in memory for the next try. It ends if the store has ended. Run finds that too.
func (r *Rings) reserveLoop(ctx context.Context) {
	unstored := make(map[string]crypto.Signer) // alg → key
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.needReserve:
		}
		var errs []error
		for _, alg := range r.cfg.Algorithms {
			if r.hasReserve(alg) || ctx.Err() != nil {
				continue
			}
			errs = append(errs, r.makeReserve(ctx, alg, unstored))
		}
		failed := storage.Join(errs...)
		if storage.Ended(r.store, failed) {
			return
		}
		if failed != nil && ctx.Err() == nil && !failing && !errors.Is(failed, storage.ErrMoved) {
			r.log.Error("a key could not be made; trying again", "error", failed)
		}
		failing = failed != nil
	}
}

func (r *Rings) hasReserve(alg string) bool {
	return r.snapshot.Load().rings[alg].Has(r.Now(), Reserve)
}

func (r *Rings) makeReserve(ctx context.Context, alg string, unstored map[string]crypto.Signer) error {
	if unstored[alg] == nil {
		key, err := generate(ctx, alg)
		if err != nil {
			return err
		}
		unstored[alg] = key
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hasReserve(alg) {
		delete(unstored, alg)
		return nil
	}
	if err := r.addReserve(ctx, alg, unstored[alg]); err != nil {
		return err
	}
	delete(unstored, alg)
	if err := r.reload(ctx); err != nil {
		return err
	}
	signal(r.wake) // if the ring has no spare, it publishes the reserve now
	return nil
}

// generate makes a key. It returns when ctx ends: an RSA key can take longer on a slow machine than a stop may. The key that
// is made after that is thrown away.
func generate(ctx context.Context, alg string) (crypto.Signer, error) {
	var key crypto.Signer
	var err error
	made := make(chan struct{})
	go func() {
		defer close(made)
		key, err = keytype.Generate(alg)
	}()
	select {
	case <-made:
		return key, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// makeMissing makes the keys that a ring needs before Open returns: one to sign and one to be
// published next. It makes them in parallel, because an RSA key can take a second.
func (r *Rings) makeMissing(ctx context.Context) error {
	type generated struct {
		alg string
		key crypto.Signer
		err error
	}
	var wg sync.WaitGroup
	out := make(chan generated, 2*len(r.cfg.Algorithms))
	for _, alg := range r.cfg.Algorithms {
		for range max(0, 2-len(r.snapshot.Load().rings[alg].Keys)) {
			wg.Go(func() {
				key, err := generate(ctx, alg)
				out <- generated{alg, key, err}
			})
		}
	}
	wg.Wait()
	close(out)
	for m := range out {
		if m.err != nil {
			return m.err
		}
		enough := func(before ring, _ time.Time) bool { return len(before.Keys) >= 2 }
		if err := r.add(ctx, m.alg, m.key, enough); err != nil {
			return err
		}
	}
	if err := r.reload(ctx); err != nil {
		return err
	}
	return r.advanceRings(ctx)
}

// addReserve stores key as the reserve of its ring, unless the ring has one by now.
func (r *Rings) addReserve(ctx context.Context, alg string, key crypto.Signer) error {
	return r.add(ctx, alg, key, func(before ring, now time.Time) bool { return before.Has(now, Reserve) })
}

// add stores key as the reserve of its ring, unless the ring as it is stored has enough keys: another node
// may have added one since this one looked. A ring that must sign at once advances
// in the same transaction, even while the clock is frozen. Otherwise advanceRings decides
// when the key is published and signs.
//
// A crash after the commit leaves a reserve, which the next start finds.
func (r *Rings) add(ctx context.Context, alg string, key crypto.Signer, enough func(before ring, now time.Time) bool) error {
	kid, err := keytype.Thumbprint(key.Public())
	if err != nil {
		return err
	}
	public, err := keytype.MarshalPublic(key.Public())
	if err != nil {
		return err
	}
	return r.store.Update(ctx, func(tx storage.Tx) error {
		before, err := getRing(tx, alg)
		if err != nil {
			return err
		}
		d := decision{tx, r.Now(), system}
		if enough(before, d.now) {
			return nil
		}
		k := schedule.NewKey(kid, alg, public, before.MaxLifetime)
		after := before.Clone()
		after.Keys = append(after.Keys, k)
		if before.MustSignNow {
			err = r.putChange(d, before, after)
		} else {
			err = errors.Join(putRing(tx, after), r.putClockAt(d))
		}
		return errors.Join(err, r.putPrivate(tx, kid, key), d.audit(keyEvent("key.mint", k)))
	})
}

func (r *Rings) putPrivate(tx storage.Tx, kid string, key crypto.Signer) error {
	der, err := keytype.MarshalPrivate(key)
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
