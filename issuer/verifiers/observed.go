package verifiers

import (
	"net/netip"
	"strings"
	"time"

	"keymill/issuer/api"
)

const (
	maxObserved   = 1000
	maxAgentBytes = 100
	networkBits   = 64 // of an IPv6 address: a client has all addresses of such a network
)

// A caller is what tells observed verifiers apart.
type caller struct {
	address, through netip.Addr
	agent            string
}

// A Visitor is an observed verifier, an entry of a ring in the order of the last visits.
type Visitor struct {
	caller
	first, last time.Time
	lastUp      time.Duration // last, as served time
	fetches     uint64
	kids        *kidList // that it was served last
	gone        bool     // another one has its place

	newer, older *Visitor
}

// observations are the latest 1,000 callers. A new one takes the place of the one that did not come for the
// longest time, in constant time: a client that comes from many addresses costs no more than others.
type observations struct {
	callers map[caller]*Visitor
	ring    *Visitor // its older is the latest visit, its newer the oldest; nil before the first visit
}

func callerOf(f Fetch) caller {
	c := caller{network(f.Address), f.Through.Unmap().WithZone(""), cut(f.Agent, maxAgentBytes)}
	if network(c.through) == c.address { // a proxy that is not trusted: a client can say that it is one
		c.through = c.address
	}
	return c
}

// network returns the address without what a client can choose freely.
func network(a netip.Addr) netip.Addr {
	if a = a.Unmap(); !a.Is6() {
		return a
	}
	p, err := a.Prefix(networkBits)
	if err != nil {
		return a
	}
	return p.Addr()
}

func (o *observations) note(now moment, f Fetch, kids *kidList) *Visitor {
	c := callerOf(f)
	v := o.callers[c]
	if v == nil {
		v = o.add(c, now.at)
	}
	o.again(v, now, kids)
	return v
}

// again notes a visit of one that has its place.
func (o *observations) again(v *Visitor, now moment, kids *kidList) {
	if o.ring.older != v {
		v.unlink()
		v.linkBehind(o.ring)
	}
	v.last, v.lastUp, v.kids = now.at, now.up, kids
	v.fetches++
}

// add makes an entry, in the place of the oldest one if there are enough.
func (o *observations) add(c caller, now time.Time) *Visitor {
	if o.ring == nil {
		// With room for deleted entries the map does not grow while others take their places.
		o.callers, o.ring = make(map[caller]*Visitor, 4*maxObserved), new(Visitor)
		o.ring.newer, o.ring.older = o.ring, o.ring
	}
	if len(o.callers) >= maxObserved {
		oldest := o.ring.newer
		oldest.unlink()
		oldest.gone = true
		delete(o.callers, oldest.caller)
	}
	c.agent = strings.Clone(c.agent) // it is a part of the request's header
	v := &Visitor{caller: c, first: now}
	v.newer, v.older = v, v
	o.callers[c] = v
	return v
}

func (v *Visitor) unlink() {
	v.newer.older, v.older.newer = v.older, v.newer
	v.newer, v.older = v, v
}

// linkBehind makes v the latest.
func (v *Visitor) linkBehind(ring *Visitor) {
	v.newer, v.older = ring, ring.older
	v.older.newer, ring.older = v, v
}

// each calls fn for all, the latest first, until it returns false.
func (o *observations) each(fn func(v *Visitor) bool) {
	if o.ring == nil {
		return
	}
	for v := o.ring.older; v != o.ring && fn(v); v = v.older {
	}
}

func (v *Visitor) show(keys published) api.ObservedVerifier {
	out := api.ObservedVerifier{
		Address: v.address.String(), Agent: strings.ToValidUTF8(v.agent, "\ufffd"),
		First: *instant(v.first), Last: *instant(v.last), Fetches: v.fetches, Missing: v.kids.missing(keys.kids),
	}
	if v.through.IsValid() {
		out.Through = v.through.String()
	}
	return out
}
