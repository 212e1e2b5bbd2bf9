package keystore

import (
	"slices"
	"time"
)

// A policy is what the schedule needs of the configuration.
type policy struct {
	rotateEvery time.Duration
	propagation time.Duration
	maxAge      time.Duration
	// hold is until when caches may keep a set under a longer max-age that the
	// configuration had before. A key published earlier counts from there.
	hold time.Time
}

// skew is how far the clocks of those who verify may be from ours.
func (p policy) skew() time.Duration { return min(2*time.Minute, p.propagation/4) }

// ready is when a key published at now is known to every cache that obeys max-age.
func (p policy) ready(now time.Time) time.Time {
	return latest(now.Add(p.propagation), p.hold)
}

// A ring is the keys of one algorithm that have not stopped signing, in the order in
// which they sign; the reserve is last. Its functions return a changed copy.
type ring struct {
	Alg  string        `json:"alg"`
	Cap  time.Duration `json:"cap"` // of keys to come; it only rises
	Keys []Key         `json:"keys"`
	// AtOnce: a key must sign now, whoever knows it. So it is in a new store, where nobody
	// has cached a set, and after the active key was revoked, where a token that some cache
	// cannot verify yet is better than none.
	AtOnce bool `json:"at_once,omitempty"`
	// Signing is the kid that the audit log last named as the one that signs.
	Signing string `json:"signing,omitempty"`
}

func (r ring) clone() ring {
	r.Keys = slices.Clone(r.Keys)
	return r
}

// at returns the place of the first key at stage, or -1.
func (r ring) at(now time.Time, stage Stage) int {
	return slices.IndexFunc(r.Keys, func(k Key) bool { return k.Stage(now) == stage })
}

func (r ring) has(now time.Time, stage Stage) bool { return r.at(now, stage) >= 0 }

// settle applies what is due at now. It returns the ring to keep and the keys that have
// stopped and leave it. A settled ring settles to itself.
func (r ring) settle(now time.Time, p policy) (ring, []Key) {
	r = r.clone()
	r.chain(now, p) // a shorter rotate_every can make a successor due
	stopped := r.retire(now, p)
	if r.AtOnce && !r.has(now, Active) {
		r.begin(now, p)
	}
	if !r.has(now, Spare) {
		r.publish(now, p) // from its first signature on, a key has a published spare
	}
	r.chain(now, p)
	if i := r.at(now, Active); i >= 0 {
		r.Signing = r.Keys[i].KID
	}
	return r, stopped
}

// retire takes out the keys that have stopped and writes down how long verifiers need them.
func (r *ring) retire(now time.Time, p policy) []Key {
	var stopped []Key
	r.Keys = slices.DeleteFunc(r.Keys, func(k Key) bool {
		if now.Before(k.Stop) {
			return false
		}
		k.Drop = k.Stop.Add(k.Cap + p.skew())
		k.Erase = k.Stop.Add(p.skew())
		stopped = append(stopped, k)
		return true
	})
	return stopped
}

// begin lets the spare that most caches know sign at once, or the reserve if there is none.
func (r *ring) begin(now time.Time, p policy) {
	if !r.has(now, Spare) {
		r.publish(now, p)
	}
	best := -1
	for i, k := range r.Keys {
		if k.Stage(now) == Spare && (best < 0 || k.Ready.Before(r.Keys[best].Ready)) {
			best = i
		}
	}
	if best < 0 {
		return // until a key is made
	}
	r.activate(best, now)
	k := r.Keys[best]
	r.Keys = slices.Insert(slices.Delete(r.Keys, best, best+1), 0, k)
}

// publish makes the reserve a spare; chain says when it signs.
func (r *ring) publish(now time.Time, p policy) {
	if i := r.at(now, Reserve); i >= 0 {
		r.Keys[i].Publish, r.Keys[i].Ready = now, p.ready(now)
	}
}

// chain gives every spare its Sign, and the key before it the same instant as Stop. Only
// instants in the future move.
func (r *ring) chain(now time.Time, p policy) {
	for i := range r.Keys {
		if now.Before(r.Keys[i].Stop) {
			r.Keys[i].Stop = never
		}
		if r.Keys[i].Stage(now) != Spare {
			continue
		}
		due := r.Keys[i].Ready
		if i > 0 {
			due = latest(due, r.Keys[i-1].Sign.Add(p.rotateEvery), now)
			r.Keys[i-1].Stop = due
		}
		r.Keys[i].Sign = due
	}
}

// resume accounts for a time in which nobody served the set, from last to now: every key
// that had not begun to sign by then has been published for that much less than planned.
// A key whose Sign passed meanwhile has signed nothing and goes back to being a spare. last
// can be seconds early, since a crash loses what came after the last record of the clock;
// so a key that the ring names as signing has signed, whatever last says.
func (r ring) resume(last, now time.Time, p policy) ring {
	r = r.clone()
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.Stage(last) != Spare || k.KID == r.Signing {
			continue
		}
		k.Ready = latest(k.Ready.Add(now.Sub(last)), now.Add(2*p.maxAge), p.hold)
		k.Sign = latest(k.Sign, k.Ready)
		if i > 0 {
			r.Keys[i-1].Stop = k.Sign
		}
	}
	return r
}

// rotate lets the spare sign now. Without force it must be known to every cache.
func (r ring) rotate(now time.Time, p policy, force bool) (ring, *NotReadyError) {
	r = r.clone()
	if force && !r.has(now, Spare) {
		r.publish(now, p)
	}
	i := r.at(now, Spare)
	if i < 0 {
		return r, &NotReadyError{Alg: r.Alg}
	}
	if now.Before(r.Keys[i].Ready) && !force {
		return r, &NotReadyError{Alg: r.Alg, At: r.Keys[i].Ready}
	}
	r.activate(i, now)
	return r, nil
}

// activate makes key i sign from now on.
func (r *ring) activate(i int, now time.Time) {
	if a := r.at(now, Active); a >= 0 {
		r.Keys[a].Stop = now
	}
	r.Keys[i].Ready, r.Keys[i].Sign, r.Keys[i].Stop = now, now, never
	r.AtOnce = false
}

// revoke takes a key out. If it signed, settle lets a spare sign at once.
func (r ring) revoke(kid string, now time.Time) ring {
	r = r.clone()
	i := r.find(kid)
	if r.Keys[i].Stage(now) == Active {
		r.AtOnce = true
	}
	r.Keys = slices.Delete(r.Keys, i, i+1)
	return r
}

// adopt takes an imported key in, as the next spare or signing at once.
func (r ring) adopt(k Key, now time.Time, p policy, signNow bool) ring {
	r = r.clone()
	k.Publish, k.Ready, k.Sign = now, p.ready(now), never
	place := 0
	if a := r.at(now, Active); a >= 0 {
		place = a + 1
	}
	r.Keys = slices.Insert(r.Keys, place, k)
	if signNow {
		r.activate(place, now)
	}
	return r
}

// end stops what signs now and takes out what never has: nobody asks the ring any more.
func (r ring) end(now time.Time) (after ring, unused []Key) {
	r = r.clone()
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

func (r ring) find(kid string) int {
	return slices.IndexFunc(r.Keys, func(k Key) bool { return k.KID == kid })
}

func latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}

func (r ring) equal(other ring) bool {
	return r.Alg == other.Alg && r.Cap == other.Cap && r.AtOnce == other.AtOnce && r.Signing == other.Signing &&
		slices.EqualFunc(r.Keys, other.Keys, Key.equal)
}
