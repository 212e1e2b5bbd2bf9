// Package sharedstore compares a store in PostgreSQL with a bare loop of pgx on the same server. The loop does the least
// that the requests need: it reads a record and writes it, each in a statement of its own, on a connection for each
// caller. A store reads more records, and compares what it read.
//
// The loop and the store run in turns, and only numbers of one turn are compared. So the ratios depend on the code,
// while the requests per second depend on the machine.
//
// The loop has a process of the server for each caller, and the store has one or two. On a machine that does other
// things at the same time the loop therefore gets a larger part of the processors, and the ratio of requests per second
// is too low. The ratio of processor time does not depend on that: how much more the loop takes for a request.
package sharedstore

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"keymill/storage/optimistic"
	"keymill/storage/postgres/postgrestest"
)

// A scenario is one line of the table.
type scenario struct {
	name    string
	request func(*caller) error
	callers int
	nodes   int
	warm    bool   // all records are in the caches of the nodes
	server  server // which one, and how far it is
	least   float64
	p50     float64 // of the store, at most so many times that of the loop; 0: the requests per second are compared
}

type server int

const (
	near server = iota // on loopback
	slow               // a commit takes 2 ms
	far                // a round trip takes 2.4 ms
)

func scenarios() []scenario {
	return []scenario{
		{name: "refresh", request: (*caller).refresh, callers: 64, nodes: 1, least: 1.5},
		{name: "refresh, warm", request: (*caller).refresh, callers: 64, nodes: 1, warm: true, least: 2.5},
		{name: "login", request: (*caller).login, callers: 64, nodes: 1, least: 1.0},
		{name: "refresh, 3 nodes", request: (*caller).refresh, callers: 64, nodes: 3, least: 1.2},
		{name: "refresh, 3 nodes, commit 2 ms", request: (*caller).refresh, callers: 64, nodes: 3, server: slow, least: 1.3},
		{name: "refresh, wire 2.4 ms", request: (*caller).refresh, callers: 64, nodes: 1, server: far, least: 1.0},
		{name: "refresh, warm, 1 caller", request: (*caller).refresh, callers: 1, nodes: 1, warm: true, p50: 1.1},
	}
}

// options are the defaults on loopback. On a wire more batches have to be under way.
func (sc scenario) options() (o optimistic.Options) {
	if sc.server == far {
		o.Committers, o.Fetchers = 2, 2
	}
	return o
}

// A plan says how long each scenario takes.
type plan struct {
	families, rounds int
	slice            time.Duration
}

// settings of the server are those of a small one. The others are its defaults.
var settings = []string{"shared_buffers=256MB", "max_wal_size=4GB", "max_connections=200"}

// counterName is the line below the table.
const counterName = "one counter, 16 callers on 3 nodes"

// Measure prints the table, and returns the bounds that are missed. Only scenarios whose name contains only are measured.
func Measure(quick bool, only string, w io.Writer) (missed []string, err error) {
	p := plan{families: 100_000, rounds: 9, slice: 700 * time.Millisecond}
	if quick {
		p = plan{families: 10_000, rounds: 1, slice: 200 * time.Millisecond}
	}
	b, err := start(p)
	if err != nil {
		return nil, err
	}
	defer b.end()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tcallers\tstore/s\tloop/s\tratio\tlowest\thighest\tp50 µs\tp99 µs\tloop p50\tp99\tclient µs\tserver µs\tloop client\tserver\tcpu ratio\tcalls a commit\tbound\t")
	for _, sc := range scenarios() {
		if !strings.Contains(sc.name, only) {
			continue
		}
		r, err := b.compare(sc)
		if err != nil {
			return missed, fmt.Errorf("%s: %w", sc.name, err)
		}
		r.print(t)
		missed = append(missed, r.missed()...)
	}
	if err := t.Flush(); err != nil {
		return missed, err
	}
	if !strings.Contains(counterName, only) {
		return missed, nil
	}
	runs, err := b.hotCounter()
	if err != nil {
		return missed, err
	}
	fmt.Fprintf(w, "%s: no function ran more than %d times; the bound is %d\n", counterName, runs, mostRuns)
	if runs > mostRuns {
		missed = append(missed, fmt.Sprintf("a function ran %d times, wanted at most %d", runs, mostRuns))
	}
	return missed, nil
}

// A bench is a server with two databases of the same records.
type bench struct {
	plan
	cluster *postgrestest.Cluster
	wire    *postgrestest.Proxy
	urls    [far + 1]string
}

func start(p plan) (b *bench, err error) {
	b = &bench{plan: p}
	if b.cluster, err = postgrestest.New(settings...); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.end()
		}
	}()
	if b.wire, err = postgrestest.NewProxy(b.cluster.Address(), 1200*time.Microsecond); err != nil {
		return b, err
	}
	first, err := b.cluster.CreateDatabase()
	if err != nil {
		return b, err
	}
	b.urls[near] = b.cluster.URL(postgrestest.Role, first)
	if err := load(context.Background(), b.urls[near], p.families); err != nil {
		return b, err
	}
	if err := b.cluster.Exec(first, "VACUUM ANALYZE keymill.record", "CHECKPOINT"); err != nil {
		return b, err
	}
	second, err := b.cluster.CreateDatabase("TEMPLATE " + first)
	if err != nil {
		return b, err
	}
	b.urls[slow] = b.cluster.URL(postgrestest.Role, second)
	b.urls[far] = b.wire.URL(first)
	return b, b.cluster.Exec(second, "ALTER DATABASE "+second+" SET commit_delay = 2000", "ALTER DATABASE "+second+" SET commit_siblings = 0")
}

func (b *bench) end() {
	if b.wire != nil {
		b.wire.Close()
	}
	b.cluster.Remove()
}

// A result is what the rounds of a scenario measured.
type result struct {
	scenario
	store, loop []slice
}

// compare runs the store and the loop in turns. The order of the two changes with each round. A store whose records
// have to be read is opened again for each.
func (b *bench) compare(sc scenario) (r result, err error) {
	r.scenario = sc
	l, err := openLoop(b.urls[sc.server], sc.callers)
	if err != nil {
		return r, err
	}
	defer l.close()
	var s *nodes
	defer func() { s.close() }()
	for round := range b.rounds {
		if s == nil || !sc.warm {
			s.close()
			if s, err = openNodes(b.urls[sc.server], sc.nodes, sc.options()); err != nil {
				return r, err
			}
			if sc.warm {
				if err := s.warm(b.warmFamilies()); err != nil {
					return r, err
				}
			}
		}
		runs := []func() error{
			func() error { return b.run(&r.store, sc, sc.request, s) },
			func() error { return b.run(&r.loop, sc, (*caller).loop, &nodes{loop: l, first: b.firstOfLoop(sc)}) },
		}
		if round%2 == 1 {
			slices.Reverse(runs)
		}
		for _, run := range runs {
			if err := run(); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// warmFamilies is how many families the callers of a warm scenario use.
func (b *bench) warmFamilies() int { return min(2000, b.families/2) }

// firstOfLoop keeps the loop away from what is in the caches of a warm scenario.
func (b *bench) firstOfLoop(sc scenario) int {
	if sc.warm {
		return b.warmFamilies()
	}
	return 0
}

// run adds a slice, after a short one that makes connections.
func (b *bench) run(to *[]slice, sc scenario, request func(*caller) error, on *nodes) error {
	families := b.families
	if sc.warm {
		families = b.warmFamilies()
	}
	if _, err := b.measure(on, request, sc.callers, families, b.slice/5); err != nil {
		return err
	}
	got, err := b.measure(on, request, sc.callers, families, b.slice)
	*to = append(*to, got)
	return err
}

// ratios compares the two slices of each round.
func (r result) ratios() (ratios []float64) {
	for i := range r.store {
		if r.p50 > 0 {
			ratios = append(ratios, float64(r.store[i].percentile(0.5))/float64(r.loop[i].percentile(0.5)))
		} else {
			ratios = append(ratios, r.store[i].perSecond/r.loop[i].perSecond)
		}
	}
	slices.Sort(ratios)
	return ratios
}

func (r result) bound() string {
	if r.p50 > 0 {
		return fmt.Sprintf("p50 ≤ %.2f", r.p50)
	}
	return fmt.Sprintf("≥ %.2f", r.least)
}

func (r result) missed() []string {
	ratios := r.ratios()
	middle := ratios[len(ratios)/2]
	if r.p50 > 0 && middle > r.p50 || r.p50 == 0 && middle < r.least {
		return []string{fmt.Sprintf("%s: ratio to the bare loop %.2f, wanted %s", r.name, middle, r.bound())}
	}
	return nil
}

func (r result) print(w io.Writer) {
	ratios, store, loop := r.ratios(), join(r.store), join(r.loop)
	fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.2f\t%.1f\t%s\t\n", r.name, r.callers, store.perSecond, loop.perSecond,
		ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1],
		store.percentile(0.5).Microseconds(), store.percentile(0.99).Microseconds(),
		loop.percentile(0.5).Microseconds(), loop.percentile(0.99).Microseconds(),
		store.client.Microseconds(), store.server.Microseconds(), loop.client.Microseconds(), loop.server.Microseconds(),
		float64(loop.client+loop.server)/float64(max(1, store.client+store.server)), store.calls, r.bound())
}
