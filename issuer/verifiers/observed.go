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

// An observation is an entry of a ring, in the order of the last visits.
type observation struct {
	caller
	first, last time.Time
	lastUp      time.Duration // last, as served time
	fetches     uint64
	kids        *kidList // that it was served last

	newer, older *observation
}

// observations are the latest 1,000 callers. A new one takes the place of the one that did not come for the
// longest time, in constant time: a client that comes from many addresses costs no more than others.
type observations struct {
	callers map[caller]*observation
	ring    *observation // its older is the latest visit, its newer the oldest; nil before the first visit
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

func (o *observations) note(now moment, f Fetch, kids *kidList) {
	c := callerOf(f)
	e := o.callers[c]
	if e == nil {
		e = o.add(c, now.at)
	}
	e.unlink()
	e.linkBehind(o.ring)
	e.last, e.lastUp, e.kids = now.at, now.up, kids
	e.fetches++
}

// add makes an entry, of the oldest one if there are enough.
func (o *observations) add(c caller, now time.Time) *observation {
	if o.ring == nil {
		// With room for deleted entries the map does not grow while others take their places.
		o.callers, o.ring = make(map[caller]*observation, 4*maxObserved), new(observation)
		o.ring.newer, o.ring.older = o.ring, o.ring
	}
	e := new(observation)
	if len(o.callers) >= maxObserved {
		e = o.ring.newer
		e.unlink()
		delete(o.callers, e.caller)
	}
	c.agent = strings.Clone(c.agent) // it is a part of the request's header
	*e = observation{caller: c, first: now}
	e.newer, e.older = e, e
	o.callers[c] = e
	return e
}

func (e *observation) unlink() {
	e.newer.older, e.older.newer = e.older, e.newer
	e.newer, e.older = e, e
}

// linkBehind makes e the latest.
func (e *observation) linkBehind(ring *observation) {
	e.newer, e.older = ring, ring.older
	e.older.newer, ring.older = e, e
}

// each calls fn for all, the latest first, until it returns false.
func (o *observations) each(fn func(e *observation) bool) {
	if o.ring == nil {
		return
	}
	for e := o.ring.older; e != o.ring && fn(e); e = e.older {
	}
}

func (e *observation) show(keys published) api.ObservedVerifier {
	v := api.ObservedVerifier{
		Address: e.address.String(), Agent: strings.ToValidUTF8(e.agent, "\ufffd"),
		First: *instant(e.first), Last: *instant(e.last), Fetches: e.fetches, Missing: e.kids.missing(keys.kids),
	}
	if e.through.IsValid() {
		v.Through = e.through.String()
	}
	return v
}
