package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keymill/keystore/internal/clock"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
	"keymill/storage/audit"
)

// Run does what is due until ctx ends, and then returns nil: it reads the clocks, advances
// the rings, erases private halves, drops retired keys and makes reserves. After a failure it
// logs the error and tries again. In the meantime the keys in memory continue to sign. Run returns an error after
// which the store cannot be used again, see storage.Ended: the process has to end. It is a *sealed.LifeError if the
// store was replaced by a copy.
func (r *Rings) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { r.reserveLoop(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.wake:
		}
		err := r.tick(ctx)
		if storage.Ended(r.store, err) {
			return err
		}
		if err != nil && ctx.Err() == nil && !failing && !errors.Is(err, storage.ErrMoved) {
			r.log.Error("keys cannot be maintained; trying again", "error", err)
		} else if err == nil && failing {
			r.log.Info("keys are maintained again")
		}
		failing = err != nil
		timer.Reset(r.untilNextTick())
	}
}

// Close writes the clock record for the last time, removes the node from a shared store, and erases what libcrypto has of the
// keys. Run must have returned.
func (r *Rings) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx := context.Background()
	r.snapshot.Load().erase(&snapshot{})
	return errors.Join(r.writeClock(ctx, *r.clock.Load()), r.leave(ctx))
}

// untilNextTick returns how long it is to the next Sign time, at most a fifth of a heartbeat, or the rest of p on a
// shared store.
func (r *Rings) untilNextTick() time.Duration {
	wait, now := r.cfg.Heartbeat/5, r.Now()
	if p := r.cfg.Nodes.Poll(); p > 0 {
		wait = max(p-(r.up()-time.Duration(r.met.Load())), p/5)
	}
	for _, ring := range r.snapshot.Load().rings {
		for _, k := range ring.Keys {
			if until := k.Sign.Sub(now); until > 0 {
				wait = min(wait, until)
			}
		}
	}
	return max(wait, time.Millisecond)
}

func (r *Rings) tick(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rsa.Watch() && !r.snapshot.Load().usable() {
		r.stale = true
	}
	err := r.meet(ctx)
	if err == nil && r.clockFault() == nil {
		err = r.maintain(ctx)
	}
	if r.RevokedFault() != nil || r.othersChanged() {
		r.writeRevoked(ctx)
	}
	// The clock record and the mark go on while keys cannot be read: what they count is served time.
	if r.up()-r.clockWritten >= r.cfg.Heartbeat-r.cfg.Nodes.Poll()/5 {
		r.looked = r.look(ctx)
		if clockErr := r.writeClock(ctx, *r.clock.Load()); clockErr != nil {
			err = both(err, fmt.Errorf("write clock: %w", clockErr))
		}
	}
	err = both(err, r.looked)
	r.noteDamage(err)
	return err
}

// look compares the records of the keys and the secrets of refresh tokens with the manifest, once in a heartbeat. The server
// works with what it has in memory, so it would read them only at the next change, or not before the next start.
func (r *Rings) look(ctx context.Context) error {
	if _, err := r.store.ReadBelow(ctx, "ring/", "retired/", "refresh/secret/"); err != nil {
		return fmt.Errorf("look at the keys: %w", err)
	}
	return nil
}

// both returns an error of one line.
func both(one, other error) error {
	if one == nil || other == nil {
		return cmp.Or(one, other)
	}
	return fmt.Errorf("%w; %w", one, other)
}

// noteDamage remembers damage until maintenance succeeds again.
func (r *Rings) noteDamage(err error) {
	if errors.Is(err, storage.ErrDamaged) || err == nil {
		r.fault.Store(&err)
	}
}

// maintain does what is due.
func (r *Rings) maintain(ctx context.Context) error {
	if err := r.observeClocks(ctx); err != nil {
		return fmt.Errorf("observe clocks: %w", err)
	}
	if r.stale {
		if err := r.reload(ctx); err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
	}
	signal(r.needReserve)
	if r.clock.Load().Frozen {
		return nil
	}
	if err := r.advanceRings(ctx); err != nil {
		return fmt.Errorf("advance rings: %w", err)
	}
	if err := r.eraseDue(ctx); err != nil {
		return fmt.Errorf("erase retired keys: %w", err)
	}
	return r.keepCertificates(ctx)
}

const clockJumped = "the wall clock jumped; rotation and erasure stop until it is right again or has run steadily for an hour"

// observeClocks reads the clocks. If the decision time jumps ahead, the rings must be
// rescheduled before the new time is used. Signing waits for both, so it sees the old time
// with the old schedule or the new time with the new schedule.
//
// A crash between the transaction and the new clock loses nothing: the transaction has
// written the clock record, and the next start continues from it.
func (r *Rings) observeClocks(ctx context.Context) error {
	old, seen := r.clock.Load(), r.readClocks()
	next, jump := old.Observe(seen)
	if next.Frozen && !old.Frozen {
		r.log.Error(clockJumped, "offset", next.Offset.Round(time.Second))
	}
	if !next.Frozen && old.Frozen {
		r.log.Info("the wall clock is trusted again", "now", next.DecisionAt(next.Up))
	}
	last := old.DecisionAt(next.Up)
	if jump <= clock.MaxWallDrift {
		r.clock.Store(&next)
		r.slept += seen.Slept
		return nil
	}
	r.signing.Lock()
	defer r.signing.Unlock()
	if err := r.reschedule(ctx, last, next.DecisionAt(next.Up)); err != nil {
		return err
	}
	r.clock.Store(&next)
	r.slept += seen.Slept
	return r.reload(ctx)
}

// reschedule accounts in every ring for the time from last to now, in which no server
// served the set. All rings are rescheduled in one transaction, because it also writes the
// clock record: a ring that is not in it could not be rescheduled for this downtime later. What another server has
// accounted for, which started at the same time, does not count twice: the clock record in the store tells.
func (r *Rings) reschedule(ctx context.Context, last, now time.Time) error {
	return r.store.Update(ctx, func(tx storage.Tx) error {
		d, last := decision{tx, now, system}, last
		if rec, err := readClock(tx); err == nil {
			last = schedule.Latest(last, rec.Highest)
		} else if !errors.Is(err, storage.ErrDamaged) {
			return err
		}
		for _, alg := range r.cfg.Algorithms {
			before, err := getRing(tx, alg)
			if err != nil {
				return err
			}
			if len(before.Keys) == 0 {
				continue
			}
			if err := r.putChange(d, before, before.AfterDowntime(last, now, r.policy())); err != nil {
				return err
			}
		}
		return nil
	})
}

// stopUnconfigured stops the rings that are no longer configured, or were configured only when
// the store was created. Keys that have signed stay published for their tokens, the others are
// dropped. On a shared store a ring goes on while another live node is configured to sign with it.
func (r *Rings) stopUnconfigured(ctx context.Context) error {
	now := r.Now()
	for alg, ring := range r.snapshot.Load().rings {
		if r.queues[alg] != nil || len(ring.Keys) == 0 && !ring.MustSignNow || r.cfg.Nodes.Lists(alg) {
			continue
		}
		err := r.store.Update(ctx, func(tx storage.Tx) error {
			before, err := getRing(tx, alg)
			if err != nil {
				return err
			}
			after, unused := before.Stop(now)
			errs := []error{r.putChange(decision{tx, now, system}, before, after)}
			var drops []audit.Event
			for _, k := range unused {
				errs = append(errs, tx.Delete(privateKey(k.KID)), blockKID(tx, k))
				drops = append(drops, keyEvent("key.drop", k))
			}
			// putChange gave its events times of some nanoseconds after now. These events
			// must come after them.
			later := decision{tx, now.Add(time.Microsecond), system}
			return errors.Join(append(errs, later.auditSteps(drops))...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// advanceRings applies what is due. Most ticks find nothing due and write nothing.
func (r *Rings) advanceRings(ctx context.Context) error {
	changed := false
	now := r.Now()
	for alg := range r.queues {
		ring := r.snapshot.Load().rings[alg]
		if advanced, _ := ring.Advance(now, r.policy()); advanced.Equal(ring) {
			continue
		}
		changed = true
		err := r.store.Update(ctx, func(tx storage.Tx) error {
			before, err := getRing(tx, alg)
			if err != nil {
				return err
			}
			if again, _ := before.Advance(now, r.policy()); again.Equal(before) {
				return nil // another node did it
			}
			return r.putChange(decision{tx, now, system}, before, before)
		})
		if err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return r.reload(ctx)
}

// eraseDue erases private halves and drops retired keys. Their Erase and Drop times are
// compared with the erasure time. A private half of a configured ring stays until a
// successor signs.
func (r *Rings) eraseDue(ctx context.Context) error {
	erasureTime, snap := r.ErasureTime(), r.snapshot.Load()
	changed := false
	for _, k := range snap.retired {
		drop := !erasureTime.Before(k.Drop)
		succeeded := r.queues[k.Alg] == nil || snap.rings[k.Alg].Has(r.Now(), Active)
		if !drop && (!succeeded || erasureTime.Before(k.Erase)) {
			continue
		}
		if err := r.store.Update(ctx, func(tx storage.Tx) error { return r.erase(tx, k, drop) }); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return r.reload(ctx)
}

// erase deletes the private half of k, and with drop its public half too. It does nothing if the record is not what
// this node has read: another node has erased, dropped or revoked the key.
func (r *Rings) erase(tx storage.Tx, k Key, drop bool) error {
	var stored Key
	if found, err := getJSON(tx, retiredKey(k.Alg, k.KID), &stored); err != nil || !found || !stored.Equal(k) {
		return err
	}
	event := keyEvent("key.erase", k)
	errs := []error{tx.Delete(privateKey(k.KID))}
	if drop {
		event.Action = "key.drop"
		errs = append(errs, tx.Delete(retiredKey(k.Alg, k.KID)), blockKID(tx, k))
	} else {
		k.Erase = schedule.Never // erased, so it is not due again
		errs = append(errs, putRetired(tx, k))
	}
	d := decision{tx, r.Now(), system}
	return errors.Join(append(errs, d.auditSteps([]audit.Event{event}))...)
}

// signal wakes the loop that waits for c. If it is not waiting, it finds the signal later.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
