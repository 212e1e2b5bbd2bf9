package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/keystore/internal/clock"
	"keymill/keystore/internal/schedule"
	"keymill/keystore/internal/signing"
	"keymill/storage"
	"keymill/storage/audit"
)

// A Rotation is the result of Rotate.
type Rotation struct {
	Alg          string
	KID          string    // the key that signs from Sign on
	Previous     string    // the kid that signed before; "" if none did
	Sign         time.Time // when KID begins to sign, decision time: now, or on a shared store when every node knows it
	Spare        string    // the kid that signs next; "" while it is being made, and until Sign
	UnknownUntil time.Time // until when caches may not know KID; zero if all know it
	Missing      []string  // ids of the live nodes that have not read the change after 3p; they sign until then only
}

// A Revocation is the result of Revoke.
type Revocation struct {
	KID          string
	Alg          string
	Was          Stage
	Also         []string  // other kids of the same key, revoked with it; Import accepts none, earlier builds did
	CachedUntil  time.Time // until when caches may still have the key
	Successor    string    // the kid that signs instead, if the key signed, or the flushed reserve; "" while it is being made
	UnknownUntil time.Time // until when caches may not know Successor; zero if all know it
	Missing      []string  // ids of the live nodes that have not read the change after 3p; they sign until then only
}

// A RotateRequest asks for the next key of a ring.
type RotateRequest struct {
	Alg   string
	Force bool // also if verifiers may not know the spare yet
	Flush bool // the reserve signs, not the spare; excludes Force

	// Check may refuse the spare that would sign. It is called in the transaction, after the schedule has
	// allowed the rotation, and not with Force or Flush. It must not use the store, and of Rings only Now and ServedTime. It may be nil.
	Check func(kid string) error
}

// A RevokeRequest asks that a key leaves the published set and never signs again.
type RevokeRequest struct {
	KID   string
	Flush bool // the reserve of its ring signs from now on, so that verifiers fetch the set
}

// Rotate makes the spare of a ring sign now. On a shared store it signs after 3p, when no node can use keys that it read
// before; Rotate returns when every live node has read the change. It refuses with a *NotReadyError while caches may
// not know the spare, and then with the error of Check, unless Force is set. With Flush the reserve signs
// now, and neither of them refuses: the code is "no_reserve" while the reserve is being made. It refuses to
// make the published set larger than verifiers read, also with Force. by names the operator in the audit log.
func (r *Rings) Rotate(ctx context.Context, req RotateRequest, by string) (Rotation, error) {
	alg := req.Alg
	if r.queues[alg] == nil {
		return Rotation{}, invalid("invalid_request", "%s is not in keys.algorithms (%s)", quoted(alg), strings.Join(r.cfg.Algorithms, ", "))
	}
	var out Rotation
	err := r.operate(ctx, by, nil, func(d decision) error {
		before, err := getRing(d.tx, alg)
		if err != nil {
			return err
		}
		after, kid, err := r.next(d, before, req)
		if err != nil {
			return err
		}
		advanced, stopped := after.Advance(d.now, r.policy())
		if err := r.checkRoom(d.now, advanced, stopped...); err != nil {
			return err
		}
		if err := r.putChange(d, before, after); err != nil {
			return err
		}
		out = r.rotation(before, advanced, kid, d.now)
		if req.Check != nil && !req.Force && !req.Flush {
			if err := req.Check(out.KID); err != nil {
				return err
			}
		}
		return d.audit(audit.Event{Action: "key.rotate", Target: out.KID,
			Detail: map[string]string{"alg": alg, "force": strconv.FormatBool(req.Force), "flush": strconv.FormatBool(req.Flush)}})
	})
	if err == nil {
		out.Missing = r.awaitNodes(ctx)
	}
	return out, err
}

// next returns the ring with the key that a rotation asks for as the one that signs, and its kid.
func (r *Rings) next(d decision, before ring, req RotateRequest) (ring, string, error) {
	if req.Flush {
		return r.flush(d, before)
	}
	after, kid, notReady := before.Rotate(d.now, r.policy(), req.Force)
	if notReady != nil {
		return ring{}, "", notReady
	}
	return after, kid, nil
}

// flush returns the ring with the reserve as the key that signs, and its kid. It opens the private half first: a reserve that
// cannot sign must not take the place of a key that can.
func (r *Rings) flush(d decision, before ring) (ring, string, error) {
	i := before.IndexAt(d.now, Reserve)
	if i < 0 {
		return ring{}, "", invalid("no_reserve", "%s has no reserve: it is being made, which takes some seconds; try again then", before.Alg)
	}
	k := before.Keys[i]
	box, err := d.tx.Get(privateKey(k.KID))
	if err == nil {
		_, err = r.openPrivate(k, box, nil)
	}
	return before.Flush(i, d.now, r.policy()), k.KID, missingPrivate(k, err)
}

// rotation describes a change of a ring after which the key kid signs.
func (r *Rings) rotation(before, after ring, kid string, now time.Time) Rotation {
	next := after.Index(kid)
	out := Rotation{
		Alg: after.Alg, KID: kid, Sign: schedule.Latest(now, after.Keys[next].Sign), UnknownUntil: r.unknownUntil(before, after.Keys[next], now),
	}
	if i := before.IndexAt(out.Sign, Active); i >= 0 {
		out.Previous = before.Keys[i].KID
	}
	for _, k := range after.Keys[next+1:] {
		if k.Stage(now) == Spare {
			out.Spare = k.KID
			break
		}
	}
	return out
}

// unknownUntil returns until when a cache that obeys max-age may hold a set without k, which
// signs earlier than planned. It is zero if every cache knows k.
func (r *Rings) unknownUntil(before ring, k Key, now time.Time) time.Time {
	until := k.Publish.Add(r.policy().MaxAge + r.policy().Lead)
	if i := before.Index(k.KID); i < 0 || before.Keys[i].Ready.After(now) {
		until = schedule.Latest(until, r.policy().OldCachesUntil)
	}
	if until.After(schedule.Latest(now, k.Sign)) {
		return until
	}
	return time.Time{}
}

// Revoke removes a key from the set and erases its private half, in one transaction, under every
// kid that it has. The key and its kids can never be imported again. If the key signed, the spare
// signs from that moment on. With Flush the reserve of its ring does, whether the key signed or not. A flush that is
// not possible revokes nothing. by names the operator in the audit log.
func (r *Rings) Revoke(ctx context.Context, req RevokeRequest, by string) (Revocation, error) {
	kid := req.KID
	if checkKID(kid) != nil {
		return Revocation{}, unknownKID(kid)
	}
	if req.Flush {
		// Damage keeps no key from being revoked, but the reserve has to be read to sign.
		if err := r.Reload(ctx); err != nil {
			return Revocation{}, fmt.Errorf("the keys cannot be read, so none was flushed or revoked: %w", err)
		}
	}
	var out Revocation
	var revoked []string
	err := r.operate(ctx, by, &revoked, func(d decision) error {
		revoked = nil
		k, err := findKey(d.tx, kid)
		if err != nil {
			return err
		}
		same, err := r.storedKeys(d.tx, k.Alg, k.Public)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(same, func(s Key) bool { return s.KID == k.KID }) {
			same = append(same, k) // it has stopped since the keys in memory were read
		}
		for _, s := range same {
			revoked = append(revoked, s.KID)
		}
		out = Revocation{KID: kid, Alg: k.Alg, CachedUntil: schedule.Latest(d.now.Add(r.policy().MaxAge+r.policy().Lead), r.policy().OldCachesUntil)}
		if err := r.revokeKeys(d, same, req.Flush, &out); err != nil {
			return err
		}
		detail := map[string]string{"alg": out.Alg, "was": string(out.Was), "successor": out.Successor, "flush": strconv.FormatBool(req.Flush)}
		if len(out.Also) > 0 {
			detail["also"] = strings.Join(out.Also, " ")
		}
		return d.audit(audit.Event{Action: "key.revoke", Target: kid, Detail: detail})
	})
	if len(revoked) > 0 {
		r.WriteRevoked(context.WithoutCancel(ctx)) // the revocation is durable
		out.Missing = r.awaitNodes(ctx)
	}
	return out, err
}

func unknownKID(kid string) error {
	return invalid("not_found", "key %q does not exist; list the keys to see their kids", quoted(kid))
}

// findKey returns the key with that kid.
func findKey(tx storage.Reader, kid string) (Key, error) {
	var damage error // of a ring that may not have the key
	for _, alg := range SupportedAlgorithms() {
		ring, err := getRing(tx, alg)
		if i := ring.Index(kid); err == nil && i >= 0 {
			return ring.Keys[i], nil
		}
		var k Key
		found, retiredErr := getJSON(tx, retiredKey(alg, kid), &k)
		if retiredErr == nil && found {
			return k, nil
		}
		damage = errors.Join(damage, err, retiredErr)
	}
	return Key{}, cmp.Or(damage, unknownKID(kid))
}

// revokeKeys revokes all kids of one key, and completes out.
func (r *Rings) revokeKeys(d decision, keys []Key, flush bool, out *Revocation) error {
	before, err := getRing(d.tx, out.Alg)
	if err != nil {
		return err
	}
	after, signed := before, false
	var errs []error
	for _, k := range keys {
		was := Retiring
		if before.Index(k.KID) < 0 {
			errs = append(errs, d.tx.Delete(retiredKey(k.Alg, k.KID)))
		} else {
			was, after = k.Stage(d.now), after.Revoke(k.KID, d.now)
			signed = signed || was == Active
		}
		if k.KID == out.KID {
			out.Was = was
		} else {
			out.Also = append(out.Also, k.KID)
		}
		errs = append(errs, d.tx.Delete(privateKey(k.KID)), blockRevoked(d, k))
	}
	successor := ""
	if flush {
		if after, successor, err = r.flushAfter(d, before, after); err != nil {
			return err
		}
	} else if len(after.Keys) == len(before.Keys) {
		return errors.Join(errs...)
	}
	advanced, _ := after.Advance(d.now, r.policy())
	a := advanced.Index(successor)
	if signed && !flush {
		a = advanced.IndexAt(d.now, Active)
	}
	if a >= 0 {
		out.Successor, out.UnknownUntil = advanced.Keys[a].KID, r.unknownUntil(before, advanced.Keys[a], d.now)
	}
	return errors.Join(append(errs, r.putRevocation(d, before, after))...)
}

// flushAfter is flush after a revocation, which has changed the ring from before to after.
func (r *Rings) flushAfter(d decision, before, after ring) (ring, string, error) {
	switch {
	case r.queues[after.Alg] == nil:
		return ring{}, "", invalid("invalid_request", "%s is not in keys.algorithms, so no other key of it can sign; revoke the key without flush", after.Alg)
	case before.Has(d.now, Reserve) && !after.Has(d.now, Reserve):
		return ring{}, "", invalid("invalid_request", "the key is the reserve, which no verifier has; revoke it without flush")
	}
	flushed, kid, err := r.flush(d, after)
	if err != nil {
		return ring{}, "", err
	}
	advanced, stopped := flushed.Advance(d.now, r.policy())
	return flushed, kid, r.checkRoom(d.now, advanced, stopped...)
}

// operate runs a decision of an operator. A decision can set a Stop time to now. So operate
// blocks signing before it reads the time, until the new keys are in the snapshot: no token
// is signed after the Stop time of its key. A decision finds the retired keys in the snapshot, so
// operate brings it up to date first. If that fails, only a revocation is decided: revoked is
// then not nil, and holds the kids that decide has revoked.
//
// Lock order: mu, then signing, then the store. Code inside a transaction must take neither
// lock.
//
// A crash before the commit changes nothing. After the commit the next start reads the
// change from the store, also if the caller got no result.
func (r *Rings) operate(ctx context.Context, by string, revoked *[]string, decide func(decision) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.clockFault(); err != nil && revoked == nil {
		return &UnavailableError{Reason: err.Error(), RetryAfter: r.cfg.Nodes.Poll()}
	}
	r.signing.Lock()
	defer r.signing.Unlock()
	if r.stale || revoked == nil {
		// With the keys in memory as they are, a key can still be revoked, and only that: after another change that
		// could not be read back, a key would sign after its Stop time.
		if err := r.reload(ctx); err != nil && revoked == nil {
			return err
		}
	}
	var now time.Time
	err := r.store.Update(ctx, func(tx storage.Tx) (err error) {
		if now, err = r.latest(tx); err != nil {
			return err
		}
		return decide(decision{tx, now, by})
	})
	if err != nil {
		return err
	}
	r.adopt(clock.Record{Highest: now})
	signal(r.wake) // the ring may need a reserve, and the next Sign time may be sooner
	// The change is durable. Even if ctx has ended, signing must use it.
	ctx = context.WithoutCancel(ctx)
	if err := r.reload(ctx); err != nil {
		r.noteDamage(err)
		if revoked != nil {
			r.drop(*revoked)
			return fmt.Errorf("the key is revoked and out of use, but the other keys cannot be read: %w", err)
		}
		return fmt.Errorf("the change is stored but could not be read back: %w", err)
	}
	return nil
}

// drop removes keys from those in memory, so that damage of another record does not keep a revoked key in
// use. A ring whose key signed does not sign until a reload.
func (r *Rings) drop(kids []string) {
	old := r.snapshot.Load()
	revoked := func(kid string) bool { return slices.Contains(kids, kid) }
	gone := func(k Key) bool { return revoked(k.KID) }
	next := &snapshot{rings: maps.Clone(old.rings), signers: maps.Clone(old.signers), retired: slices.DeleteFunc(slices.Clone(old.retired), gone)}
	for alg, ring := range next.rings {
		ring.Keys = slices.DeleteFunc(slices.Clone(ring.Keys), gone)
		next.rings[alg] = ring
	}
	maps.DeleteFunc(next.signers, func(kid string, _ *signing.Signer) bool { return revoked(kid) })
	next.published = slices.DeleteFunc(slices.Clone(old.published), func(k PublicKey) bool { return revoked(k.KID) })
	r.replace(old, next)
}

// A Status describes the keys at one moment.
type Status struct {
	Ready  bool
	Issues []string  // why Ready is false, for operators
	Frozen bool      // the wall clock has jumped
	Now    time.Time // decision time

	RotateEvery, Propagation, MaxAge time.Duration // as configured
}

// Status reports whether every ring has an active key and a spare, and whether the wall
// clock can be trusted. A new ring whose first key waits for its Sign time is not an issue.
func (r *Rings) Status() Status {
	now, snap := r.Now(), r.snapshot.Load()
	st := Status{
		Now: now, Frozen: r.clock.Load().Frozen,
		RotateEvery: r.cfg.RotateEvery, Propagation: r.cfg.Propagation, MaxAge: r.cfg.MaxAge,
	}
	if st.Frozen {
		st.Issues = append(st.Issues, clockJumped)
	}
	if err := r.current(); err != nil {
		st.Issues = append(st.Issues, err.Error())
	}
	for _, alg := range r.cfg.Algorithms {
		ring := snap.rings[alg]
		switch {
		case !ring.Has(now, Spare):
			st.Issues = append(st.Issues, alg+": no spare key is published")
		case !ring.Has(now, Active) && ring.MustSignNow:
			st.Issues = append(st.Issues, alg+": no key can sign")
		}
	}
	if fault := r.fault.Load(); fault != nil && *fault != nil {
		st.Issues = append(st.Issues, (*fault).Error()+": stop the server and run keymill doctor")
	}
	st.Ready = len(st.Issues) == 0
	return st
}
