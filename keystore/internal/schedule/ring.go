package schedule

import (
	"slices"
	"time"
)

// A Policy is the part of the configuration that the schedule depends on.
type Policy struct {
	RotateEvery time.Duration
	Propagation time.Duration
	MaxAge      time.Duration
	// OldCachesUntil is until when caches may keep a set under a longer max-age that was
	// configured before. A key published earlier counts as published then.
	OldCachesUntil time.Time
	// Lead is how long the other nodes of a shared store use the keys that they have read. So a key stops no earlier than that
	// after it was decided. It is 0 on a store with one server, and so is NodeSkew: by how much the clocks of nodes may differ.
	Lead     time.Duration
	NodeSkew time.Duration
}

// Skew is how far the clocks of verifiers may differ from ours.
func (p Policy) Skew() time.Duration { return min(2*time.Minute, p.Propagation/4) }

// Linger is how long a private half is kept after Stop, and a public one after the last token has expired.
func (p Policy) Linger() time.Duration { return p.Skew() + p.Lead }

// ready returns when every cache that obeys max-age knows a key published at now. Another node may serve the set
// without it until Lead is over.
func (p Policy) ready(now time.Time) time.Time {
	return Latest(now.Add(max(p.Propagation, 2*p.MaxAge+p.Lead+p.NodeSkew)), p.OldCachesUntil)
}

// A Ring is the keys of one algorithm that have not stopped signing, in the order in which
// they sign. The reserve is last. Methods with a ring receiver return a changed copy, those
// with a pointer change it. now is always the decision time.
type Ring struct {
	Alg         string        `json:"alg"`
	MaxLifetime time.Duration `json:"cap"` // the MaxLifetime of new keys; it only rises
	Keys        []Key         `json:"keys"`
	// MustSignNow means that a key must sign now, even if caches do not know it. This is set
	// in a new store, where no cache has a set, and after the active key was revoked, because
	// then a token that some caches cannot verify yet is better than no token.
	MustSignNow bool `json:"at_once,omitempty"`
	// LastSigner is the kid that the audit log last named as the signing key.
	LastSigner string `json:"signing,omitempty"`
}

// Clone returns a copy that shares no keys with r.
func (r Ring) Clone() Ring {
	r.Keys = slices.Clone(r.Keys)
	return r
}

// IndexAt returns the index of the first key in that stage, or -1.
func (r Ring) IndexAt(now time.Time, stage Stage) int {
	return slices.IndexFunc(r.Keys, func(k Key) bool { return k.Stage(now) == stage })
}

// Has reports whether a key is in that stage.
func (r Ring) Has(now time.Time, stage Stage) bool { return r.IndexAt(now, stage) >= 0 }

// Index returns the index of the key with that kid, or -1.
func (r Ring) Index(kid string) int {
	return slices.IndexFunc(r.Keys, func(k Key) bool { return k.KID == kid })
}

// Advance applies everything that is due at now. It returns the new ring and the keys that
// have stopped and are no longer in it. Advancing again at the same time changes nothing.
func (r Ring) Advance(now time.Time, p Policy) (Ring, []Key) {
	r = r.Clone()
	// Spares are scheduled twice: first because a lower rotate_every can make a successor due
	// now, so that the active key stops, and at the end for a new spare.
	r.scheduleSpares(now, p)
	stopped := r.removeStopped(now, p)
	if r.MustSignNow && !r.Has(now, Active) {
		r.activateSpare(now, p)
	}
	if !r.Has(now, Spare) {
		r.publishReserve(now, p) // a key that signs always has a published spare
	}
	r.scheduleSpares(now, p)
	if i := r.IndexAt(now, Active); i >= 0 {
		r.LastSigner = r.Keys[i].KID
	}
	return r, stopped
}

// removeStopped removes the keys that have stopped and determines how long verifiers need
// them.
func (r *Ring) removeStopped(now time.Time, p Policy) []Key {
	var stopped []Key
	r.Keys = slices.DeleteFunc(r.Keys, func(k Key) bool {
		if now.Before(k.Stop) {
			return false
		}
		k.Drop = k.Stop.Add(k.MaxLifetime + p.Linger())
		k.Erase = k.Stop.Add(p.Linger())
		stopped = append(stopped, k)
		return true
	})
	return stopped
}

// activateSpare makes the spare that caches have known for the longest time sign at once. If
// there is no spare, it takes the reserve. Without either it does nothing, and advance tries
// again when a key is made.
func (r *Ring) activateSpare(now time.Time, p Policy) {
	if !r.Has(now, Spare) {
		r.publishReserve(now, p)
	}
	best := -1
	for i, k := range r.Keys {
		if k.Stage(now) == Spare && (best < 0 || k.Ready.Before(r.Keys[best].Ready)) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	r.activate(best, now, now)
	k := r.Keys[best]
	r.Keys = slices.Insert(slices.Delete(r.Keys, best, best+1), 0, k)
}

// publishReserve makes the reserve a spare. scheduleSpares determines when it signs.
func (r *Ring) publishReserve(now time.Time, p Policy) {
	if i := r.IndexAt(now, Reserve); i >= 0 {
		r.Keys[i].Publish, r.Keys[i].Ready = now, p.ready(now)
	}
}

// scheduleSpares determines the Sign time of every spare, which is also the Stop time of the
// key before it. It changes only instants in the future. On a shared store another node may not read a change before
// Lead is over: so no Sign time is set to an earlier instant than that, and one that is as near is not changed.
func (r *Ring) scheduleSpares(now time.Time, p Policy) {
	for i := range r.Keys {
		if now.Before(r.Keys[i].Stop) {
			r.Keys[i].Stop = Never
		}
		if r.Keys[i].Stage(now) != Spare {
			continue
		}
		due := r.Keys[i].Ready
		if r.Keys[i].near(now, p) {
			due = r.Keys[i].Sign
		} else if i > 0 {
			due = Latest(due, r.Keys[i-1].Sign.Add(p.RotateEvery), now.Add(p.Lead))
		}
		if i > 0 {
			r.Keys[i-1].Stop = due
		}
		r.Keys[i].Sign = due
	}
}

// near reports whether a spare signs so soon that another node may not learn of another Sign time.
func (k Key) near(now time.Time, p Policy) bool {
	return k.Stage(now) == Spare && !k.Sign.After(now.Add(p.Lead))
}

// AfterDowntime accounts for the time from last to now, in which no server served the set.
// A key that was a spare at the time last has been published for that much less than
// planned, so its Ready and Sign times move. If its Sign time has passed in the downtime, it
// has signed nothing and is a spare again. last can be some seconds too early, because a
// crash loses the time after the last clock record. So the key in LastSigner is treated as
// having signed in any case.
func (r Ring) AfterDowntime(last, now time.Time, p Policy) Ring {
	r = r.Clone()
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.Stage(last) != Spare || k.KID == r.LastSigner || k.near(last, p) {
			continue
		}
		k.Ready = Latest(k.Ready.Add(max(0, now.Sub(last))), now.Add(2*p.MaxAge+p.Lead), p.OldCachesUntil)
		k.Sign = Latest(k.Sign, k.Ready)
		if i > 0 {
			r.Keys[i-1].Stop = k.Sign
		}
	}
	return r
}

// Rotate makes the spare sign now, or after Lead on a shared store, and returns its kid. Unless force is set, every cache
// must know it already.
func (r Ring) Rotate(now time.Time, p Policy, force bool) (after Ring, kid string, notReady *NotReadyError) {
	r = r.Clone()
	if force && !r.Has(now, Spare) {
		r.publishReserve(now, p)
	}
	i := r.IndexAt(now, Spare)
	if i < 0 {
		return r, "", &NotReadyError{Alg: r.Alg}
	}
	if r.Keys[i].near(now, p) {
		return r, "", &NotReadyError{Alg: r.Alg, At: r.Keys[i].Sign, Decided: true}
	}
	if now.Before(r.Keys[i].Ready) && !force {
		return r, "", &NotReadyError{Alg: r.Alg, At: r.Keys[i].Ready}
	}
	r.activate(i, now, now.Add(p.Lead))
	return r, r.Keys[i].KID, nil
}

// Flush makes key i, the reserve, sign now, although no verifier has it. A verifier that fetches the set only for an
// unknown kid fetches at its first token, and so learns which keys were revoked. Such a verifier may know the spare
// already, which stays next and keeps its Publish and Ready times.
//
// Nothing else breaks the rule that a key is published long before it signs. On a store with one server the reserve is
// published and signs in one instant. On a shared store it signs after Lead, when every node publishes it. Until then the
// key that signs goes on, or a spare if that was revoked.
func (r Ring) Flush(i int, now time.Time, p Policy) Ring {
	r = r.Clone()
	k, at := r.Keys[i], now.Add(p.Lead)
	k.Publish = now
	r.Keys = slices.Delete(r.Keys, i, i+1)
	if p.Lead > 0 && !r.Has(now, Active) {
		if r.activateSpare(now, p); !r.Has(now, Active) {
			at = now // no other key can sign
		}
	}
	i = slices.IndexFunc(r.Keys, func(k Key) bool { return at.Before(k.Sign) }) // the first that does not sign by then
	if i < 0 {
		i = len(r.Keys)
	}
	r.Keys = slices.Insert(r.Keys, i, k)
	r.activate(i, now, at)
	return r
}

// activate makes key i sign from at on, which is now or soon. The key that would sign at that time stops.
func (r *Ring) activate(i int, now, at time.Time) {
	if a := r.IndexAt(at, Active); a >= 0 && a != i {
		r.Keys[a].Stop = at
	}
	r.Keys[i].Ready, r.Keys[i].Sign, r.Keys[i].Stop = at, at, Never
	r.MustSignNow = r.MustSignNow && now.Before(at) && !r.Has(now, Active)
}

// Revoke removes a key. If it was the active one, advance makes a spare sign at once.
func (r Ring) Revoke(kid string, now time.Time) Ring {
	r = r.Clone()
	i := r.Index(kid)
	if r.Keys[i].Stage(now) == Active {
		r.MustSignNow = true
	}
	r.Keys = slices.Delete(r.Keys, i, i+1)
	return r
}

// Insert adds an imported key as the next spare, or as the key that signs now, after Lead on a shared store.
func (r Ring) Insert(k Key, now time.Time, p Policy, signNow bool) Ring {
	r = r.Clone()
	k.Publish, k.Ready, k.Sign = now, p.ready(now), Never
	at := 0
	if a := r.IndexAt(now, Active); a >= 0 {
		at = a + 1
	}
	for at < len(r.Keys) && r.Keys[at].near(now, p) {
		at++
	}
	r.Keys = slices.Insert(r.Keys, at, k)
	if signNow {
		r.activate(at, now, now.Add(p.Lead))
	}
	return r
}

// Stop is for a ring that is no longer configured. It stops the keys that have signed and
// removes those that have not. If the ring is configured again, caches do not know its next key,
// so that key does not sign at once.
func (r Ring) Stop(now time.Time) (after Ring, unused []Key) {
	r = r.Clone()
	r.MustSignNow = false
	r.Keys = slices.DeleteFunc(r.Keys, func(k Key) bool {
		stage := k.Stage(now)
		if stage != Spare && stage != Reserve {
			return false
		}
		unused = append(unused, k)
		return true
	})
	for i := range r.Keys {
		r.Keys[i].Stop = now
	}
	return r, unused
}

// StopAll stops all keys of a ring, as if each of them had signed. The next key signs at once.
func (r Ring) StopAll(now time.Time) Ring {
	r = r.Clone()
	r.MustSignNow = true
	for i := range r.Keys {
		k := &r.Keys[i]
		for _, t := range []*time.Time{&k.Publish, &k.Ready, &k.Sign} {
			if now.Before(*t) {
				*t = now
			}
		}
		k.Stop = now
	}
	return r
}

// UntilSign returns how long a ring without an active key waits for one.
func (r Ring) UntilSign(now time.Time) time.Duration {
	if i := r.IndexAt(now, Spare); i >= 0 {
		return r.Keys[i].Sign.Sub(now)
	}
	return time.Second
}

// Equal reports whether both have the same keys with the same instants.
func (r Ring) Equal(other Ring) bool {
	return r.Alg == other.Alg && r.MaxLifetime == other.MaxLifetime &&
		r.MustSignNow == other.MustSignNow && r.LastSigner == other.LastSigner &&
		slices.EqualFunc(r.Keys, other.Keys, Key.Equal)
}

// Latest returns the latest of its arguments.
func Latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}
