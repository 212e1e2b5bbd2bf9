package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/argon2"

	"keymill/integration_test/bench/tablesize"
	"keymill/storage/postgres/postgrestest"
)

// sharing is how many servers share the store in the last comparison of the group capacity.
const sharing = 3

// A capacityCase is one line of the table: the processor time of servers on PostgreSQL as a multiple of another one.
type capacityCase struct {
	scenario    scenario
	connections int // of each server
	nodes       int // 1: compared with a server on bbolt; more: with the first of them alone, at the same load for each
	most        float64
}

func capacityCases() (all []capacityCase) {
	for _, connections := range concurrencies() {
		for _, sc := range scenarios() {
			switch {
			case sc.group == "refresh":
				all = append(all, capacityCase{scenario: sc, connections: connections, nodes: 1, most: 1.3})
			case sc.name == "client_credentials EdDSA":
				all = append(all, capacityCase{scenario: sc, connections: connections, nodes: 1, most: 1.15})
			}
		}
	}
	last := capacityCase{scenario: all[0].scenario, connections: 16, nodes: sharing, most: 1.25}
	for _, c := range all {
		if c.scenario.group == "refresh" {
			last.scenario = c.scenario
		}
	}
	return append(all, last)
}

// A capacityResult is what the rounds of a case measured.
type capacityResult struct {
	capacityCase
	shared side // the servers on PostgreSQL
	other  side
	rounds []float64 // the median of the ratios of processor time in each
}

func (o options) capacityPlan() (p plan, rounds int) {
	if o.quick {
		return plan{slices: 2, slice: 200 * time.Millisecond}, 1
	}
	return plan{slices: 8, slice: 300 * time.Millisecond}, 5
}

// measureCapacity prints the numbers that docs/capacity.md computes with.
func measureCapacity(o options, w io.Writer) (missed []string, err error) {
	if o.only == "" {
		if err := tablesize.Measure(context.Background(), o.quick, w); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(w, "processor time of a password: %.1f ms\n", microseconds(passwordTime())/1000)
	cluster, err := postgrestest.New("shared_buffers=256MB", "max_wal_size=4GB", "max_connections=200")
	if err != nil {
		return nil, err
	}
	defer cluster.Remove()
	var results []*capacityResult
	for _, c := range capacityCases() {
		if r := (&capacityResult{capacityCase: c}); strings.Contains(r.name(), o.only) {
			results = append(results, r)
		}
	}
	p, rounds := o.capacityPlan()
	for n := range rounds {
		if err := measureCapacityOnce(cluster, p, n, results); err != nil {
			return nil, err
		}
	}
	for _, r := range results {
		missed = append(missed, r.missed()...)
	}
	return missed, printCapacity(w, results)
}

// passwordTime returns the processor time of hashing a password as Keymill does, the lowest of some.
func passwordTime() (least time.Duration) {
	for range 9 {
		before := ownTime()
		argon2.IDKey([]byte("correct horse battery staple"), make([]byte, 16), 2, 19<<10, 1, 32)
		if took := ownTime() - before; least == 0 || took < least {
			least = took
		}
	}
	return least
}

// measureCapacityOnce does one round, with servers and a database of its own. The servers that share the store start
// when the first one has been compared with bbolt.
func measureCapacityOnce(cluster *postgrestest.Cluster, p plan, round int, results []*capacityResult) (err error) {
	s, err := startSharing(cluster, round%2 == 1)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return err
	}
	for _, r := range results {
		shared, other := []target{s.nodes[0]}, []target{s.file}
		if r.nodes > 1 {
			if err := s.grow(r.nodes); err != nil {
				return err
			}
			shared, other = s.nodes, s.nodes[:1]
		}
		if err := r.round(shared, other, s.engine, p); err != nil {
			return fmt.Errorf("%s: %w", r.name(), err)
		}
	}
	return nil
}

// round loads the two sides in turns, see compare.
func (r *capacityResult) round(shared, other []target, e *engine, p plan) error {
	before := len(r.shared.perCPU)
	sides := [2]*side{&r.shared, &r.other}
	for i, targets := range [][]target{shared, other} {
		l, err := dialAll(targets, r.connections, r.scenario)
		if err != nil {
			return err
		}
		defer l.close()
		sides[i].load, sides[i].targets, sides[i].engine = l, targets, e
		if _, err := l.run(p.slice / 2); err != nil { // warm up, not counted
			return err
		}
	}
	for i := range 2 * p.slices {
		if err := sides[(i+i/2)%2].slice(p.slice); err != nil {
			return err
		}
	}
	r.rounds = append(r.rounds, median(quotients(r.other.perCPU[before:], r.shared.perCPU[before:])))
	return nil
}

func (r *capacityResult) name() string {
	if r.nodes > 1 {
		return fmt.Sprintf("%s, %d servers", r.scenario.name, r.nodes)
	}
	return r.scenario.name
}

// against names what the ratio compares with.
func (r *capacityResult) against() string {
	if r.nodes > 1 {
		return "one of them"
	}
	return "bbolt"
}

func (r *capacityResult) ratio() float64 { return median(quotients(r.other.perCPU, r.shared.perCPU)) }

func (r *capacityResult) missed() []string {
	if ratio := r.ratio(); ratio > r.most {
		return []string{fmt.Sprintf("%s at %d: processor time %.3f of that of %s, wanted at most %.2f", r.name(), r.connections, ratio, r.against(), r.most)}
	}
	return nil
}

func printCapacity(w io.Writer, results []*capacityResult) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "server on PostgreSQL\tconns each\tagainst\tserver/s\tother/s\tp50 µs\tp99 µs\tother p50\tp99\tcpu µs\tother cpu\tcpu ratio\tmiddle\trounds\tbound\tPostgreSQL cpu µs\tWAL B\t")
	for _, r := range results {
		ratios := slices.Sorted(slices.Values(quotients(r.other.perCPU, r.shared.perCPU)))
		fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%.0f\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.3f\t%.2f–%.2f\t%.2f–%.2f\t≤ %.2f\t%.1f\t%.0f\t\n",
			r.name(), r.connections, r.against(), median(r.shared.perSecond), median(r.other.perSecond),
			percentile(r.shared.latencies, 0.50).Microseconds(), percentile(r.shared.latencies, 0.99).Microseconds(),
			percentile(r.other.latencies, 0.50).Microseconds(), percentile(r.other.latencies, 0.99).Microseconds(),
			microseconds(r.shared.cpuPerRequest()), microseconds(r.other.cpuPerRequest()),
			r.ratio(), ratios[len(ratios)/4], ratios[len(ratios)*3/4], slices.Min(r.rounds), slices.Max(r.rounds), r.most,
			microseconds(r.shared.engineCPU)/r.shared.requests(), float64(r.shared.wal)/r.shared.requests())
	}
	return t.Flush()
}
