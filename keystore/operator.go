package keystore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
)

// A Rotation says what signs now.
type Rotation struct {
	Alg          string
	KID          string
	Previous     string    // "" if none signed
	Sign         time.Time // when KID began
	Spare        string    // what is published next; "" while it is being made
	UnknownUntil time.Time // zero, or until when caches may not know KID
}

// A Revocation says what a revoked key leaves behind.
type Revocation struct {
	KID          string
	Alg          string
	Was          Stage
	CachedUntil  time.Time // caches may go on accepting the key until then
	Successor    string    // what signs in its place, if it signed; "" while it is being made
	UnknownUntil time.Time // zero, or until when caches may not know the successor
}

// Rotate lets the spare of alg sign now. It refuses with a *NotReadyError while caches may
// not know the spare, unless force is set. by goes into the audit record.
func (r *Rings) Rotate(ctx context.Context, alg string, force bool, by string) (Rotation, error) {
	if r.queues[alg] == nil {
		return Rotation{}, invalid("invalid_request", "no ring signs with %q; this server has %q", alg, r.cfg.Algorithms)
	}
	var out Rotation
	var refused *NotReadyError
	err := r.operate(ctx, func(tx storage.Tx) error {
		now := r.Now()
		before, err := getRing(tx, alg)
		if err != nil {
			return err
		}
		after, notReady := before.rotate(now, r.policy, force)
		if refused = notReady; refused != nil {
			return refused
		}
		if err := r.change(tx, before, after, now, by); err != nil {
			return err
		}
		settled, _ := after.settle(now, r.policy)
		out = r.rotation(before, settled, now)
		return audit.Append(tx, now, audit.Event{Action: "key.rotate", By: by, Target: out.KID,
			Detail: map[string]string{"alg": alg, "force": strconv.FormatBool(force)}})
	})
	return out, err
}

func (r *Rings) rotation(before, after ring, now time.Time) Rotation {
	out := Rotation{Alg: after.Alg, Sign: now}
	if i := before.at(now, Active); i >= 0 {
		out.Previous = before.Keys[i].KID
	}
	if i := after.at(now, Active); i >= 0 {
		out.KID, out.UnknownUntil = after.Keys[i].KID, r.unknownUntil(before, after.Keys[i], now)
	}
	if i := after.at(now, Spare); i >= 0 {
		out.Spare = after.Keys[i].KID
	}
	return out
}

// unknownUntil is until when a cache that obeys max-age may hold a set without k, which
// has begun to sign before its time; zero if all know it.
func (r *Rings) unknownUntil(before ring, k Key, now time.Time) time.Time {
	until := k.Publish.Add(r.policy.maxAge)
	if i := before.find(k.KID); i < 0 || before.Keys[i].Ready.After(now) {
		until = latest(until, r.policy.hold)
	}
	if until.After(now) {
		return until
	}
	return time.Time{}
}

// Revoke takes a key out of the set, its private half too, in one transaction; its kid
// never comes back. If it signed, the spare signs from that moment on.
func (r *Rings) Revoke(ctx context.Context, kid, by string) (Revocation, error) {
	if checkKID(kid) != nil {
		return Revocation{}, unknownKID(kid)
	}
	var out Revocation
	err := r.operate(ctx, func(tx storage.Tx) error {
		now := r.Now()
		out = Revocation{KID: kid, CachedUntil: latest(now.Add(r.policy.maxAge), r.policy.hold)}
		found, err := r.revokeIn(tx, &out, now, by)
		if err != nil {
			return err
		}
		if !found {
			return unknownKID(kid)
		}
		return errors.Join(
			tx.Delete(privateKey(kid)),
			audit.Append(tx, now, audit.Event{Action: "key.revoke", By: by, Target: kid,
				Detail: map[string]string{"alg": out.Alg, "was": string(out.Was), "successor": out.Successor}}),
		)
	})
	return out, err
}

func unknownKID(kid string) error {
	return invalid("not_found", "there is no key %q; key list shows them", kid)
}

// revokeIn looks for the key among those that sign or will, then among the retired ones.
func (r *Rings) revokeIn(tx storage.Tx, out *Revocation, now time.Time, by string) (bool, error) {
	for _, alg := range []string{EdDSA, RS256} {
		before, err := getRing(tx, alg)
		if err != nil {
			return false, err
		}
		i := before.find(out.KID)
		if i < 0 {
			var k Key
			found, err := getJSON(tx, retiredKey(alg, out.KID), &k)
			if err != nil {
				return false, err
			}
			if found {
				out.Alg, out.Was = alg, Retiring
				return true, errors.Join(tx.Delete(retiredKey(alg, out.KID)), condemn(tx, k, now))
			}
			continue
		}
		out.Alg, out.Was = alg, before.Keys[i].Stage(now)
		after := before.revoke(out.KID, now)
		settled, _ := after.settle(now, r.policy)
		if a := settled.at(now, Active); a >= 0 && out.Was == Active {
			out.Successor, out.UnknownUntil = settled.Keys[a].KID, r.unknownUntil(before, settled.Keys[a], now)
		}
		return true, errors.Join(r.change(tx, before, after, now, by), condemn(tx, before.Keys[i], now))
	}
	return false, nil
}

// condemn keeps a revoked key from ever coming back, under its kid or another one.
func condemn(tx storage.Tx, k Key, now time.Time) error {
	public, err := parsePublic(k.Public)
	if err != nil {
		return err
	}
	thumb, err := thumbprint(public)
	stone := map[string]any{"alg": k.Alg, "revoked": now.UTC()}
	return errors.Join(err, putJSON(tx, tombstoneKey(k.KID), stone), putJSON(tx, tombstoneKey(thumb), stone))
}

// operate runs a decision of an operator that can move a Stop to the present. Signing
// waits meanwhile, so that no token is signed after the Stop of its key.
func (r *Rings) operate(ctx context.Context, fn func(storage.Tx) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate.Lock()
	defer r.gate.Unlock()
	if err := r.store.Update(ctx, fn); err != nil {
		return err
	}
	signal(r.wake) // for a reserve, and for the next instant
	// The change is durable. Its caller may have gone, but signing must learn of it.
	if err := r.reload(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("the change is made, but was not read back: %w", err)
	}
	return nil
}

// A Status says how the keys are.
type Status struct {
	Ready  bool
	Issues []string // why not, in words for operators
	Frozen bool     // wall and monotonic clock disagree
	Now    time.Time
}

// Status reports whether every ring has a key that signs and a spare, and whether the
// clock can be trusted. A new ring that waits for its first Sign is no issue.
func (r *Rings) Status() Status {
	now, v := r.Now(), r.view.Load()
	st := Status{Now: now, Frozen: r.clock.Load().frozen}
	if st.Frozen {
		st.Issues = append(st.Issues, "the wall clock jumped: rotation and erasure wait until it comes back or has been steady for an hour")
	}
	for _, alg := range r.cfg.Algorithms {
		ring := v.rings[alg]
		switch {
		case !ring.has(now, Spare):
			st.Issues = append(st.Issues, alg+": no spare key is published")
		case !ring.has(now, Active) && ring.AtOnce:
			st.Issues = append(st.Issues, alg+": no key signs")
		}
	}
	st.Ready = len(st.Issues) == 0
	return st
}
