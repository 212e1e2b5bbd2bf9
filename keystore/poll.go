package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"keymill/keystore/internal/clock"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
	"keymill/storage/nodes"
	"keymill/storage/sealed"
)

// A sight is what a node reads of a shared store every p, in one View.
type sight struct {
	keys    []storage.Entry // below ring/ and retired/, as they are stored
	version uint64          // of the manifest
	clock   clock.Record
	noClock error // why there is no clock record; nil if there is one
	nodes   nodes.Sighting
}

func (s sight) sameKeys(other sight) bool {
	return slices.EqualFunc(s.keys, other.keys, func(a, b storage.Entry) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) })
}

// lookAt reads a sight, and has no effect.
func (r *Rings) lookAt(rd storage.Reader) (s sight, err error) {
	if s.version, err = sealed.ManifestVersion(rd); err != nil {
		return s, err
	}
	for _, prefix := range []string{"ring/", "retired/"} {
		for e, err := range rd.Scan(prefix, storage.EndOf(prefix)) {
			if err != nil {
				return s, err
			}
			s.keys = append(s.keys, e)
		}
	}
	if s.clock, s.noClock = readClock(rd); s.noClock != nil && !errors.Is(s.noClock, storage.ErrDamaged) {
		return s, s.noClock
	}
	s.nodes, err = r.cfg.Nodes.Look(rd)
	return s, err
}

func readClock(rd storage.Reader) (rec clock.Record, err error) {
	found, err := getJSON(rd, clockKey, &rec)
	if err == nil && !found {
		err = storage.Damaged(clockKey, "it is missing")
	}
	return rec, err
}

// join is the first step of a start on a shared store. It writes the record of this node, and waits until it is known
// whether the clock of this machine agrees with those of the other nodes. Nothing else is written before that.
func (r *Rings) join(ctx context.Context) error {
	if r.cfg.Nodes == nil {
		return nil
	}
	for {
		if err := r.beat(ctx); err != nil {
			return fmt.Errorf("write the record of this node: %w", err)
		}
		if err := r.readNodes(ctx); err != nil {
			return fmt.Errorf("read the other nodes: %w", err)
		}
		if known, err := r.cfg.Nodes.CheckClock(true); err != nil {
			return err
		} else if known {
			return r.checkPropagation()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.cfg.Nodes.Poll()):
		}
	}
}

func (r *Rings) readNodes(ctx context.Context) error {
	var seen nodes.Sighting
	err := r.store.View(ctx, func(rd storage.Reader) (err error) { seen, err = r.cfg.Nodes.Look(rd); return err })
	if err == nil {
		r.cfg.Nodes.Note(seen)
	}
	return err
}

// checkPropagation refuses settings with which this node would let a key sign before caches of the sets of the others know it.
func (r *Rings) checkPropagation() error {
	r.followOthers()
	if needed := 2 * r.cfg.Nodes.Largest().MaxAge; r.cfg.Propagation < needed {
		return fmt.Errorf("keys.propagation is %s, and another server of this store has a jwks.max_age of %s; raise keys.propagation to at least %s",
			r.cfg.Propagation, needed/2, needed)
	}
	return nil
}

// followOthers brings the policy up to date: the longest times of all live nodes count, because caches can have the set
// of each of them, and so that nodes with different settings do not keep changing the Sign times of each other.
func (r *Rings) followOthers() {
	largest, next := r.cfg.Nodes.Largest(), r.policy()
	before := next.MaxAge
	next.MaxAge, next.Propagation = max(largest.MaxAge, r.cfg.MaxAge), max(largest.Propagation, r.cfg.Propagation)
	next.RotateEvery = max(largest.RotateEvery, r.cfg.RotateEvery)
	if next.MaxAge < before { // sets with the longer max-age stay in caches
		next.OldCachesUntil = schedule.Latest(next.OldCachesUntil, r.Now().Add(next.Lead+before))
	}
	next.OldCachesUntil = schedule.Latest(next.OldCachesUntil, r.clockRecord.OldCachesUntil)
	r.clockRecord.MaxAge, r.clockRecord.OldCachesUntil = next.MaxAge, next.OldCachesUntil
	r.rules.Store(&next)
}

// awaitNodes waits until every live node has read the keys as they are now, at most 3p. It returns the ids of those that
// have not, also if they are no longer live. The caller does not hold mu.
func (r *Rings) awaitNodes(ctx context.Context) []string {
	if r.cfg.Nodes == nil {
		return nil
	}
	const unread = uint64(math.MaxUint64)
	version := unread
	var behind []string // at any time
	for end := time.Now().Add(r.cfg.Nodes.Lead()); ; {
		var seen nodes.Sighting
		var read uint64
		err := r.store.View(ctx, func(rd storage.Reader) (err error) {
			if read, err = sealed.ManifestVersion(rd); err == nil {
				seen, err = r.cfg.Nodes.Look(rd)
			}
			return err
		})
		if err == nil {
			r.cfg.Nodes.Note(seen)
			version = min(version, read)
		}
		waiting := r.cfg.Nodes.Behind(version)
		behind = append(behind, waiting...)
		if err == nil && len(waiting) == 0 || !time.Now().Before(end) || ctx.Err() != nil {
			slices.Sort(behind)
			return slices.DeleteFunc(slices.Compact(behind), func(id string) bool { return err == nil && !seen.Lacks(id, version) })
		}
		select {
		case <-ctx.Done():
		case <-time.After(r.cfg.Nodes.Poll() / 10):
		}
	}
}

// latest returns the decision time of a transaction: the highest that any node has seen. A damaged clock record is
// noticed when it is written.
func (r *Rings) latest(rd storage.Reader) (time.Time, error) {
	if r.cfg.Nodes == nil {
		return r.Now(), nil
	}
	rec, err := readClock(rd)
	if err != nil && !errors.Is(err, storage.ErrDamaged) {
		return time.Time{}, err
	}
	return schedule.Latest(r.Now(), rec.Highest), nil
}

// leave removes the record of this node from a shared store, so that the others do not wait for it.
func (r *Rings) leave(ctx context.Context) error {
	if r.cfg.Nodes == nil {
		return nil
	}
	return r.store.Update(ctx, r.cfg.Nodes.Leave)
}

// meet does what the nodes of a shared store do every p: it reads what the others have changed, and then writes the
// record of this node, with the version of the keys that it has read. It does nothing on a store with one server.
func (r *Rings) meet(ctx context.Context) error {
	p := r.cfg.Nodes.Poll()
	if p == 0 {
		return nil
	}
	defer r.judgeClock()
	began := r.up()
	if met := r.met.Load(); met > 0 && began-time.Duration(met) < p {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p)
	defer cancel()
	err := r.poll(ctx)
	if err != nil {
		err = fmt.Errorf("read the keys of a shared store: %w", err)
	} else if r.met.Store(int64(began)); r.seen.noClock != nil {
		err = fmt.Errorf("read clock: %w", r.seen.noClock)
	}
	if beat := r.beat(ctx); beat != nil { // also after damage: the others see by the record what this node has read
		err = both(err, fmt.Errorf("write the record of this node: %w", beat))
	}
	return err
}

// poll reads the keys again if a record of them has changed, and takes over the clocks of the other nodes. Signing waits
// for both, so that no key is judged by a decision time and a schedule that do not belong together.
func (r *Rings) poll(ctx context.Context) error {
	if err := r.store.Refresh(ctx); err != nil {
		return err
	}
	began := r.awake()
	var seen sight
	err := r.store.View(ctx, func(rd storage.Reader) (err error) { seen, err = r.lookAt(rd); return err })
	if err == nil {
		err = r.checkManifestVersion(seen.version)
	}
	if err != nil {
		return err
	}
	r.cfg.Nodes.Note(seen.nodes)
	var next *snapshot
	if r.stale || !seen.sameKeys(r.seen) {
		if next, err = r.load(ctx, schedule.Latest(r.Now(), seen.clock.Highest)); err != nil {
			return err
		}
		// The keys can be newer than the clock record that was read before them.
		err := r.store.View(ctx, func(rd storage.Reader) error { seen.clock, seen.noClock = readClock(rd); return nil })
		if err != nil {
			next.erase(r.snapshot.Load())
			return err
		}
	}
	r.signing.Lock()
	defer r.signing.Unlock()
	if seen.noClock == nil && seen.clock.ServedTime < r.clockRecord.ServedTime {
		seen.noClock = storage.Damaged(clockKey, "it is an older one that was put back")
	}
	if seen.noClock == nil {
		r.adopt(seen.clock)
	}
	r.followOthers()
	if next != nil {
		if err := r.publish(next, r.Now()); err != nil {
			return err
		}
	}
	r.seen = seen
	if last := r.lastRead.Load(); last != 0 && began-time.Duration(last-1) >= r.cfg.Nodes.Lead() {
		r.settled.Store(int64(r.awake() + settle))
	}
	r.lastRead.Store(int64(began) + 1)
	return nil
}

// adopt takes over what another process knows of the clocks. Nothing goes back. The wall clock is not taken over.
func (r *Rings) adopt(rec clock.Record) {
	c := r.clock.Load().Adopt(rec, r.up())
	r.clock.Store(&c)
	r.clockRecord = r.clockRecord.After(rec)
}

// beat writes the record of this node. The others take it for live.
func (r *Rings) beat(ctx context.Context) error {
	facts := nodes.Facts{
		Algorithms: r.cfg.Algorithms, MaxAge: r.cfg.MaxAge, Propagation: r.cfg.Propagation, RotateEvery: r.cfg.RotateEvery, Keys: r.seen.version,
		Generation: int(r.store.Generation()),
	}
	return r.store.Update(ctx, func(tx storage.Tx) error { return r.cfg.Nodes.Put(tx, facts) })
}

// awake returns the time since the process began. Other than up it counts suspensions of the machine. Less than a second is
// none, as in readClocks.
func (r *Rings) awake() time.Duration {
	up := r.up()
	if slept := r.sleep.Suspended(r.wallClock(), up) - r.sleptBefore; slept >= time.Second {
		return up + slept
	}
	return up
}

// settle is how long a node that could not read the keys for 3p signs nothing after it could read them again. A process
// that was paused has requests in its sockets that their clients gave up long ago and sent to another node. It reads
// them at once when it runs again.
const settle = time.Second

// current returns an error if a node of a shared store must not sign: it has not read the keys for 3p, so that
// a key that it knows may have stopped, or its wall clock is wrong.
func (r *Rings) current() error {
	lead := r.cfg.Nodes.Lead()
	if lead == 0 {
		return nil
	}
	if err := r.clockFault(); err != nil {
		return &UnavailableError{Reason: err.Error(), RetryAfter: r.cfg.Nodes.Poll()}
	}
	last, now := r.lastRead.Load(), r.awake()
	if last == 0 || now-time.Duration(last-1) >= lead {
		// Without the time since then: the log has a line for each other text.
		return &UnavailableError{
			Reason:     fmt.Sprintf("the keys were last read from the store more than %s ago, and a node signs no longer than that without reading them", lead),
			RetryAfter: r.cfg.Nodes.Poll(), cause: storage.ErrUnavailable,
		}
	}
	if now < time.Duration(r.settled.Load()) {
		return &UnavailableError{
			Reason:     fmt.Sprintf("the keys could not be read for more than %s, and requests that waited in this time are not answered", lead),
			RetryAfter: settle, cause: storage.ErrUnavailable,
		}
	}
	return nil
}

// Current returns an *UnavailableError if this server of a shared store may not know what the others did: it could not
// read the keys for too long, because it was paused or cut off, or its wall clock is wrong.
func (r *Rings) Current() error { return r.current() }

// judgeClock compares the wall clock with those of the other nodes. While it is wrong, this node signs nothing, writes no
// clock record and does not follow its wall clock.
func (r *Rings) judgeClock() {
	jumped := r.clock.Load().Step(r.readClocks()).Abs() > r.cfg.Nodes.Skew()
	known, err := r.cfg.Nodes.CheckClock(jumped)
	before := r.clockFault()
	switch {
	case !known: // it stays as it was
	case err != nil:
		if before == nil {
			r.log.Error("the wall clock is wrong; this node does not sign", "error", err)
		}
		r.wrongClock.Store(&err)
	case before != nil:
		r.log.Info("the wall clock agrees with the other nodes again")
		r.wrongClock.Store(nil)
	}
}

// clockFault returns why the wall clock is wrong, or nil.
func (r *Rings) clockFault() error {
	if err := r.wrongClock.Load(); err != nil {
		return *err
	}
	return nil
}
