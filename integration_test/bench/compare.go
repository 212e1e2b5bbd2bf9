package main

import (
	"fmt"
	"time"
)

// A plan says how long a comparison takes.
type plan struct {
	slices int           // pairs of slices
	slice  time.Duration // each
}

// A target is one of the two servers that are compared.
type target struct {
	address  string
	pid      int
	accounts accounts

	credential string // of a pinned verifier, in the group jwks with --against
}

// The totals are what one server did in a comparison.
type totals struct {
	perSecond []float64 // one number per slice
	perCPU    []float64 // requests per second of CPU time, one number per slice
	latencies []time.Duration
	cpu       time.Duration // of the server's process
}

// A result is one line of the table.
type result struct {
	scenario    scenario
	connections int
	server      totals
	floor       totals
}

// compare loads server and floor in turns, in short slices, and never both at once. When the
// machine slows down for a while, slices of both are affected. The one that goes first
// alternates, so that a drift favours neither.
func compare(sc scenario, connections int, server, floor target, p plan) (result, error) {
	out := result{scenario: sc, connections: connections}
	runs := [2]struct {
		target target
		totals *totals
		load   *load
	}{{target: server, totals: &out.server}, {target: floor, totals: &out.floor}}
	for i := range runs {
		t := &runs[i]
		var err error
		if t.load, err = dial(t.target.address, connections, func() caller { return sc.caller(t.target) }); err != nil {
			return out, err
		}
		defer t.load.close()
		if _, err := t.load.run(p.slice / 4); err != nil { // warm up, not counted
			return out, fmt.Errorf("%s on %s: %w", sc.name, t.target.address, err)
		}
	}
	for i := range 2 * p.slices {
		t := runs[(i+i/2)%2] // server floor, floor server, server floor …
		if err := t.totals.add(t.load, t.target.pid, p.slice); err != nil {
			return out, fmt.Errorf("%s on %s: %w", sc.name, t.target.address, err)
		}
	}
	return out, nil
}

// add runs the load for one slice and adds what it did.
func (t *totals) add(l *load, pid int, d time.Duration) error {
	before, err := cpuTime(pid)
	if err != nil {
		return err
	}
	seen, err := l.run(d)
	if err != nil {
		return err
	}
	after, err := cpuTime(pid)
	if err != nil {
		return err
	}
	t.cpu += after - before
	t.perSecond = append(t.perSecond, seen.perSecond())
	t.perCPU = append(t.perCPU, float64(len(seen.latencies))/max(after-before, time.Microsecond).Seconds())
	t.latencies = append(t.latencies, seen.latencies...)
	return nil
}

// join adds the totals of another comparison.
func (t *totals) join(more totals) {
	t.perSecond = append(t.perSecond, more.perSecond...)
	t.perCPU = append(t.perCPU, more.perCPU...)
	t.latencies = append(t.latencies, more.latencies...)
	t.cpu += more.cpu
}

// ratios divides the server's requests per second by the floor's, pair by pair.
func (r result) ratios() []float64 {
	out := make([]float64, len(r.server.perSecond))
	for i := range out {
		out[i] = r.server.perSecond[i] / r.floor.perSecond[i]
	}
	return out
}

// cpuRatios divides the server's CPU time per request by the floor's, pair by pair.
func (r result) cpuRatios() []float64 {
	out := make([]float64, len(r.server.perCPU))
	for i := range out {
		out[i] = r.floor.perCPU[i] / r.server.perCPU[i]
	}
	return out
}

// shares divides the floor's CPU time per request by the server's, pair by pair.
func (r result) shares() []float64 { return quotients(r.server.perCPU, r.floor.perCPU) }

// cpuPerRequest returns the user and system time of the server's process.
func (t totals) cpuPerRequest() time.Duration {
	return t.cpu / time.Duration(max(1, len(t.latencies)))
}
