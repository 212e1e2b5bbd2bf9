package keystore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
)

const system = "system" // who acts, in audit records, when nobody asked

// Run does what is due until ctx ends: it watches the clocks, moves keys through their
// lives, erases and drops, and makes reserves. A failure is logged and tried again; the
// keys in memory go on signing meanwhile.
func (r *Rings) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.mintLoop(ctx) })
	defer wg.Wait()
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
		if err != nil && ctx.Err() == nil && !failing {
			r.log.Error("keys cannot be maintained; trying again", "error", err)
		} else if err == nil && failing {
			r.log.Info("keys are maintained again")
		}
		failing = err != nil
		timer.Reset(r.pause())
	}
}

// Close writes the clock record for the last time. Run must have returned.
func (r *Rings) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.beat(context.Background(), *r.clock.Load())
}

// pause is until the next instant at which something is due, at most a fifth of a heartbeat.
func (r *Rings) pause() time.Duration {
	pause, now := r.cfg.Heartbeat/5, r.Now()
	for _, ring := range r.view.Load().rings {
		for _, k := range ring.Keys {
			if until := k.Sign.Sub(now); until > 0 {
				pause = min(pause, until)
			}
		}
	}
	return max(pause, time.Millisecond)
}

func (r *Rings) tick(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.observe(ctx); err != nil {
		return fmt.Errorf("observe clock: %w", err)
	}
	if r.stale {
		if err := r.reload(ctx); err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
	}
	signal(r.mint)
	c := r.clock.Load()
	if !c.frozen {
		if err := r.settle(ctx); err != nil {
			return fmt.Errorf("settle rings: %w", err)
		}
		if err := r.sweep(ctx); err != nil {
			return fmt.Errorf("sweep retired keys: %w", err)
		}
	}
	if r.up()-r.lastBeat < r.cfg.Heartbeat {
		return nil
	}
	if err := r.beat(ctx, *c); err != nil {
		return fmt.Errorf("write clock: %w", err)
	}
	return nil
}

const alarm = "the wall clock jumped; schedule and erasure are frozen until it comes back or has been steady for an hour"

// observe takes the clocks in. Before a jump ahead counts, the schedule makes room for
// it: signing sees the old time with the old schedule, or the new one with the new.
func (r *Rings) observe(ctx context.Context) error {
	old, seen := r.clock.Load(), r.reading()
	next, jump := old.observe(seen)
	if next.frozen && !old.frozen {
		r.log.Error(alarm, "offset", next.offset.Round(time.Second))
	}
	if !next.frozen && old.frozen {
		r.log.Info("the wall clock is trusted again", "now", next.now)
	}
	last := old.nowAt(next.up)
	if jump <= slip {
		r.clock.Store(&next)
		r.slept += seen.slept
		return nil
	}
	r.gate.Lock()
	defer r.gate.Unlock()
	if err := r.resumeAt(ctx, last, next.now); err != nil {
		return err
	}
	r.clock.Store(&next)
	r.slept += seen.slept
	return r.reload(ctx)
}

// resume makes up for the time from last to now, in which nobody served the set.
func (r *Rings) resume(ctx context.Context, last time.Time) error {
	if err := r.resumeAt(ctx, last, r.Now()); err != nil {
		return err
	}
	if err := r.dropUnconfigured(ctx); err != nil {
		return err
	}
	return r.reload(ctx)
}

// resumeAt is one transaction for all rings: it writes the clock, after which no ring could
// tell any more that it has slept.
func (r *Rings) resumeAt(ctx context.Context, last, now time.Time) error {
	return r.store.Update(ctx, func(tx storage.Tx) error {
		for _, alg := range r.cfg.Algorithms {
			before, err := getRing(tx, alg)
			if err != nil {
				return err
			}
			if len(before.Keys) == 0 {
				continue
			}
			if err := r.change(tx, before, before.resume(last, now, r.policy), now, system); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropUnconfigured ends the rings that the configuration no longer names: what signed
// stays published for its tokens, what never signed goes.
func (r *Rings) dropUnconfigured(ctx context.Context) error {
	now := r.Now()
	for alg, ring := range r.view.Load().rings {
		if r.queues[alg] != nil || len(ring.Keys) == 0 {
			continue
		}
		err := r.store.Update(ctx, func(tx storage.Tx) error {
			before, err := getRing(tx, alg)
			if err != nil {
				return err
			}
			after, unused := before.end(now)
			errs := []error{r.change(tx, before, after, now, system)}
			var drops []audit.Event
			for _, k := range unused {
				errs = append(errs, tx.Delete(privateKey(k.KID)), bury(tx, k))
				drops = append(drops, keyEvent("key.drop", k))
			}
			// After the steps of the change, each of which took a nanosecond.
			return errors.Join(append(errs, appendSteps(tx, drops, now.Add(time.Microsecond), system))...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle moves the rings to now. Most ticks find nothing to do and write nothing.
func (r *Rings) settle(ctx context.Context) error {
	changed := false
	now := r.Now()
	for alg := range r.queues {
		ring := r.view.Load().rings[alg]
		if settled, _ := ring.settle(now, r.policy); settled.equal(ring) {
			continue
		}
		changed = true
		err := r.store.Update(ctx, func(tx storage.Tx) error {
			before, err := getRing(tx, alg)
			if err != nil {
				return err
			}
			return r.change(tx, before, before, now, system)
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

// sweep erases private halves and drops public ones whose time has come by the clock of
// erasures. The private half goes only once a successor signs.
func (r *Rings) sweep(ctx context.Context) error {
	erasing, v := r.clock.Load().erasingAt(r.up()), r.view.Load()
	swept := false
	for _, k := range v.retired {
		drop := !erasing.Before(k.Drop)
		succeeded := r.queues[k.Alg] == nil || v.rings[k.Alg].has(r.Now(), Active)
		if !drop && (!succeeded || erasing.Before(k.Erase)) {
			continue
		}
		if err := r.store.Update(ctx, func(tx storage.Tx) error { return r.sweepKey(tx, k, drop) }); err != nil {
			return err
		}
		swept = true
	}
	if !swept {
		return nil
	}
	return r.reload(ctx)
}

// sweepKey erases k's private half; drop ends its public one as well.
func (r *Rings) sweepKey(tx storage.Tx, k Key, drop bool) error {
	event := keyEvent("key.erase", k)
	errs := []error{tx.Delete(privateKey(k.KID))}
	if drop {
		event.Action = "key.drop"
		errs = append(errs, tx.Delete(retiredKey(k.Alg, k.KID)), bury(tx, k))
	} else {
		k.Erase = never // done; the record says so by having no such instant any more
		errs = append(errs, putJSON(tx, retiredKey(k.Alg, k.KID), k))
	}
	return errors.Join(append(errs, appendSteps(tx, []audit.Event{event}, r.Now(), system))...)
}

// signal wakes a loop that may be asleep.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
