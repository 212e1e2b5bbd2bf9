package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A plan says how long a duel takes.
type plan struct {
	slices int           // pairs of slices
	slice  time.Duration // each
}

// A side is one of the two servers that a duel compares.
type side struct {
	address string
	pid     int
}

// A tally is what one side did in a duel.
type tally struct {
	perSecond []float64 // one number a slice
	latencies []time.Duration
	cpu       time.Duration // of the server's process
}

// A result is one line of the table.
type result struct {
	scenario    scenario
	connections int
	server      tally
	floor       tally
}

// duel loads server and floor in turns, in short slices, and never both at once:
// what the machine does to one it does to the other a moment later. Who goes first
// alternates, so that a drift favours neither.
func duel(sc scenario, connections int, server, floor side, p plan) (result, error) {
	out := result{scenario: sc, connections: connections}
	turns := [2]struct {
		side  side
		tally *tally
		load  *load
	}{{side: server, tally: &out.server}, {side: floor, tally: &out.floor}}
	for i := range turns {
		t := &turns[i]
		var err error
		if t.load, err = dial(t.side.address, connections, func() caller { return sc.caller(t.side.address) }); err != nil {
			return out, err
		}
		defer t.load.close()
		if _, err := t.load.run(p.slice / 4); err != nil { // warm up, uncounted
			return out, fmt.Errorf("%s on %s: %w", sc.name, t.side.address, err)
		}
	}
	for i := range 2 * p.slices {
		t := turns[(i+i/2)%2] // server floor, floor server, server floor …
		if err := t.tally.take(t.load, t.side.pid, p.slice); err != nil {
			return out, fmt.Errorf("%s on %s: %w", sc.name, t.side.address, err)
		}
	}
	return out, nil
}

// take adds one slice.
func (t *tally) take(l *load, pid int, d time.Duration) error {
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
	t.latencies = append(t.latencies, seen.latencies...)
	return nil
}

// ratios compares the slices pair by pair.
func (r result) ratios() []float64 {
	out := make([]float64, len(r.server.perSecond))
	for i := range out {
		out[i] = r.server.perSecond[i] / r.floor.perSecond[i]
	}
	return out
}

// cpuPerRequest is user and system time of the server's process.
func (t tally) cpuPerRequest() time.Duration {
	return t.cpu / time.Duration(max(1, len(t.latencies)))
}

// median of numbers; 0 of none.
func median(numbers []float64) float64 {
	if len(numbers) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(numbers))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile returns the least latency that the share p of all did not exceed.
func percentile(latencies []time.Duration, p float64) time.Duration {
	if len(latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(latencies))
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
