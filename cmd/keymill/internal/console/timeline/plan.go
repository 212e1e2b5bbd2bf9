package timeline

import (
	"cmp"
	"slices"
	"time"
)

// A ring is the keys of one algorithm, in the order of their lives.
type ring struct {
	alg      string
	keys     []Key
	next     time.Time // when the next key begins to sign; zero if that is not known
	rotation time.Time // when the newest spare does; it is the same unless there are several
}

// rings groups the keys by algorithm and plans what the server has not determined yet.
func (c Chart) rings() []ring {
	var list []ring
	keys := slices.Clone(c.Keys)
	slices.SortStableFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Alg, b.Alg), compareInstants(a.Sign, b.Sign), compareInstants(a.Publish, b.Publish))
	})
	for _, k := range keys {
		if n := len(list); n == 0 || list[n-1].alg != k.Alg {
			list = append(list, ring{alg: k.Alg})
		}
		r := &list[len(list)-1]
		r.keys = append(r.keys, k)
	}
	for i := range list {
		list[i].plan(c)
	}
	return list
}

// compareInstants sorts instants that are not known after all others.
func compareInstants(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Compare(*b)
}

// plan adds the next two rotations: the newest spare signs for RotateEvery, and the reserve is published
// when the spare begins to sign.
func (r *ring) plan(c Chart) {
	newest := -1
	for i, k := range r.keys {
		if k.Stage == spare && k.Revoked == nil && k.Sign != nil {
			if newest = i; r.next.IsZero() {
				r.next = *k.Sign
			}
		}
	}
	if newest < 0 || c.Frozen || c.RotateEvery <= 0 {
		return
	}
	k := &r.keys[newest]
	r.rotation = *k.Sign
	next := r.rotation.Add(c.RotateEvery)
	if k.Stop == nil {
		k.Stop = &next
		if kept := r.kept(); k.Drop == nil && kept > 0 {
			k.Drop = new(next.Add(kept))
		}
	}
	for i := range r.keys {
		if x := &r.keys[i]; x.Stage == reserve && x.Publish == nil && x.Revoked == nil {
			x.Publish, x.Sign = &r.rotation, k.Stop
			return
		}
	}
}

// kept returns how long a key of the ring stays published after it has stopped; 0 if no key tells.
func (r *ring) kept() time.Duration {
	for _, k := range r.keys {
		if k.Stop != nil && k.Drop != nil && k.Sign != nil {
			return k.Drop.Sub(*k.Stop)
		}
	}
	return 0
}

// How much the picture shows, in rotations, and how much is left empty at its two ends.
const (
	pastRotations   = 2
	futureRotations = 3
	margin          = 50 // a fiftieth
)

// window returns the time that the picture shows: every instant, but not more than some rotations back and
// ahead. It has a width even if no instant is known.
func (c Chart) window(rings []ring) (from, to time.Time) {
	from, to = c.Now, c.Now
	if from.IsZero() {
		from, to = c.anyInstant(), c.anyInstant()
	}
	low, high := from.Add(-pastRotations*c.RotateEvery), to.Add(futureRotations*c.RotateEvery)
	include := func(t time.Time) {
		if c.RotateEvery > 0 && !c.Now.IsZero() {
			t = latest(low, soonest(high, t))
		}
		from, to = soonest(from, t), latest(to, t)
	}
	for _, r := range rings {
		for _, k := range r.keys {
			for _, t := range []*time.Time{k.Publish, k.Sign, k.Stop, k.Drop, k.Revoked} {
				if t != nil {
					include(*t)
				}
			}
		}
		if !r.rotation.IsZero() {
			include(r.rotation.Add(c.RotateEvery + c.RotateEvery/8))
		}
	}
	if !to.After(from) {
		width := max(c.RotateEvery, time.Minute)
		return from.Add(-width), to.Add(width)
	}
	gap := to.Sub(from)/margin + time.Millisecond
	return from.Add(-gap), to.Add(gap)
}

// anyInstant returns an instant to begin with, where there is no clock.
func (c Chart) anyInstant() time.Time {
	for _, k := range c.Keys {
		if t := earliest(k.Publish, k.Sign, k.Stop, k.Drop, k.Revoked); t != nil {
			return *t
		}
	}
	return time.Unix(0, 0)
}

func soonest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
