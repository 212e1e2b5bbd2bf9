package keystore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
)

// A Rotation is the result of Rotate.
type Rotation struct {
	Alg          string
	KID          string    // the key that signs now
	Previous     string    // the kid that signed before; "" if none did
	Sign         time.Time // when KID began to sign, decision time
	Spare        string    // the kid that signs next; "" while it is being made
	UnknownUntil time.Time // until when caches may not know KID; zero if all know it
}

// A Revocation is the result of Revoke.
type Revocation struct {
	KID          string
	Alg          string
	Was          Stage
	CachedUntil  time.Time // until when caches may still have the key
	Successor    string    // the kid that signs instead, if the key signed; "" while it is being made
	UnknownUntil time.Time // until when caches may not know Successor; zero if all know it
}

// Rotate makes the spare of alg sign now. It refuses with a *NotReadyError while caches may
// not know the spare, unless force is set. by names the operator in the audit log.
func (r *Rings) Rotate(ctx context.Context, alg string, force bool, by string) (Rotation, error) {
	if r.queues[alg] == nil {
		return Rotation{}, invalid("invalid_request", "%s is not in keys.algorithms (%s)", quoted(alg), strings.Join(r.cfg.Algorithms, ", "))
	}
	var out Rotation
	err := r.operate(ctx, by, func(d decision) error {
		before, err := getRing(d.tx, alg)
		if err != nil {
			return err
		}
		after, notReady := before.rotate(d.now, r.policy, force)
		if notReady != nil {
			return notReady
		}
		if err := r.putChange(d, before, after); err != nil {
			return err
		}
		advanced, _ := after.advance(d.now, r.policy)
		out = r.rotation(before, advanced, d.now)
		return d.audit(audit.Event{Action: "key.rotate", Target: out.KID,
			Detail: map[string]string{"alg": alg, "force": strconv.FormatBool(force)}})
	})
	return out, err
}

func (r *Rings) rotation(before, after ring, now time.Time) Rotation {
	out := Rotation{Alg: after.Alg, Sign: now}
	if i := before.indexAt(now, Active); i >= 0 {
		out.Previous = before.Keys[i].KID
	}
	if i := after.indexAt(now, Active); i >= 0 {
		out.KID, out.UnknownUntil = after.Keys[i].KID, r.unknownUntil(before, after.Keys[i], now)
	}
	if i := after.indexAt(now, Spare); i >= 0 {
		out.Spare = after.Keys[i].KID
	}
	return out
}

// unknownUntil returns until when a cache that obeys max-age may hold a set without k, which
// signs earlier than planned. It is zero if every cache knows k.
func (r *Rings) unknownUntil(before ring, k Key, now time.Time) time.Time {
	until := k.Publish.Add(r.policy.maxAge)
	if i := before.index(k.KID); i < 0 || before.Keys[i].Ready.After(now) {
		until = latest(until, r.policy.oldCachesUntil)
	}
	if until.After(now) {
		return until
	}
	return time.Time{}
}

// Revoke removes a key from the set and erases its private half, in one transaction. The
// key and its kid can never be imported again. If the key signed, the spare signs from that
// moment on. by names the operator in the audit log.
func (r *Rings) Revoke(ctx context.Context, kid, by string) (Revocation, error) {
	if checkKID(kid) != nil {
		return Revocation{}, unknownKID(kid)
	}
	var out Revocation
	err := r.operate(ctx, by, func(d decision) error {
		out = Revocation{KID: kid, CachedUntil: latest(d.now.Add(r.policy.maxAge), r.policy.oldCachesUntil)}
		found := false
		for _, alg := range SupportedAlgorithms() {
			var err error
			if found, err = r.revokeIn(d, alg, &out); err != nil {
				return err
			}
			if found {
				break
			}
		}
		if !found {
			return unknownKID(kid)
		}
		return errors.Join(
			d.tx.Delete(privateKey(kid)),
			d.audit(audit.Event{Action: "key.revoke", Target: kid,
				Detail: map[string]string{"alg": out.Alg, "was": string(out.Was), "successor": out.Successor}}),
		)
	})
	return out, err
}

func unknownKID(kid string) error {
	return invalid("not_found", "key %q does not exist; list the keys to see their kids", quoted(kid))
}

// revokeIn revokes the key out.KID if it belongs to alg, and completes out.
func (r *Rings) revokeIn(d decision, alg string, out *Revocation) (found bool, err error) {
	before, err := getRing(d.tx, alg)
	if err != nil {
		return false, err
	}
	i := before.index(out.KID)
	if i < 0 {
		return revokeRetired(d, alg, out)
	}
	out.Alg, out.Was = alg, before.Keys[i].Stage(d.now)
	after := before.revoke(out.KID, d.now)
	advanced, _ := after.advance(d.now, r.policy)
	if a := advanced.indexAt(d.now, Active); a >= 0 && out.Was == Active {
		out.Successor, out.UnknownUntil = advanced.Keys[a].KID, r.unknownUntil(before, advanced.Keys[a], d.now)
	}
	return true, errors.Join(r.putChange(d, before, after), blockRevoked(d, before.Keys[i]))
}

func revokeRetired(d decision, alg string, out *Revocation) (found bool, err error) {
	var k Key
	if found, err = getJSON(d.tx, retiredKey(alg, out.KID), &k); err != nil || !found {
		return false, err
	}
	out.Alg, out.Was = alg, Retiring
	return true, errors.Join(d.tx.Delete(retiredKey(alg, out.KID)), blockRevoked(d, k))
}

// operate runs a decision of an operator. A decision can set a Stop time to now. So operate
// blocks signing before it reads the time, until the new keys are in the snapshot: no token
// is signed after the Stop time of its key.
//
// Lock order: mu, then signing, then the store. Code inside a transaction must take neither
// lock.
//
// A crash before the commit changes nothing. After the commit the next start reads the
// change from the store, also if the caller got no result.
func (r *Rings) operate(ctx context.Context, by string, decide func(decision) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signing.Lock()
	defer r.signing.Unlock()
	err := r.store.Update(ctx, func(tx storage.Tx) error { return decide(decision{tx, r.Now(), by}) })
	if err != nil {
		return err
	}
	signal(r.wake) // the ring may need a reserve, and the next Sign time may be sooner
	// The change is durable. Even if ctx has ended, signing must use it.
	if err := r.reload(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("the change is stored but could not be read back: %w", err)
	}
	return nil
}

// A Status describes the keys at one moment.
type Status struct {
	Ready  bool
	Issues []string  // why Ready is false, for operators
	Frozen bool      // the wall clock has jumped
	Now    time.Time // decision time
}

// Status reports whether every ring has an active key and a spare, and whether the wall
// clock can be trusted. A new ring whose first key waits for its Sign time is not an issue.
func (r *Rings) Status() Status {
	now, snap := r.Now(), r.snapshot.Load()
	st := Status{Now: now, Frozen: r.clock.Load().frozen}
	if st.Frozen {
		st.Issues = append(st.Issues, clockJumped)
	}
	for _, alg := range r.cfg.Algorithms {
		ring := snap.rings[alg]
		switch {
		case !ring.has(now, Spare):
			st.Issues = append(st.Issues, alg+": no spare key is published")
		case !ring.has(now, Active) && ring.MustSignNow:
			st.Issues = append(st.Issues, alg+": no key can sign")
		}
	}
	st.Ready = len(st.Issues) == 0
	return st
}
