// Bench measures Keymill against bare floors, on the machine it runs on.
//
//	scripts/bench [--quick] [--assert] [jwks|token|refresh|start|verify|all]
//
// For jwks, token and refresh it starts three processes: the real binary, set up by its
// own verbs; the floor, which does the least that the same requests need (see floor); and
// itself, the clients. For each scenario and number of connections the two servers are loaded in
// turns, a second each, never both at once. So the ratio between them is a property
// of the code, though the requests per second are one of the machine.
//
//	keymill  ████      ████████      ████
//	floor        ██████        ██████         ─▶ time
//
// One line a measurement:
//
//	server/s, floor/s  requests per second, median of the slices
//	ratio              median of the ratios of neighbouring slices, and their range
//	p50, p99           latency seen by the clients, all slices together
//	cpu                time that the server's process used, a request
//
// All three share the machine's cores. With few of them, requests per second include
// the clients' own work, the same for both sides; cpu does not.
//
// The group verify starts no server: it verifies access tokens in its own process, with
// package jwks and with what else Go services use, all following one key set over HTTP
// (see contender). Each verifies a pool of tokens in slices of 20 ms, in an order that
// rotates; numbers are compared within a round and their medians printed.
//
//	bare        the signature alone, of a token that is decoded already
//	keymill     first verification of a token
//	cached      the same with a cache that has seen it before
//	go-oidc, keyfunc, jwx
//
// One line a contender; ×16 means as many goroutines at once:
//
//	ns/op       median of the rounds
//	over bare   beyond the bare check of the same round, median
//	allocs, B   heap allocations and their bytes, counted apart
//	of bare     its time as a share of the bare check's: median, and the middle 80 %
//	of fastest  and of the fastest of the last three's
//
// The exit code tells only of failures; with --assert also of numbers missed.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// groups are what the command line can name.
func groups() []string { return []string{"jwks", "token", "refresh", "start", "verify"} }

// options of the command line.
type options struct {
	quick, assert bool
	groups        []string // of groups
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "floor" {
		return serveFloor(args[1:])
	}
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	missed, err := measure(o, os.Stdout)
	if err != nil {
		return err
	}
	if o.assert && len(missed) > 0 {
		return errors.New("missed:\n  " + strings.Join(missed, "\n  "))
	}
	return nil
}

func parseOptions(args []string) (options, error) {
	var o options
	for _, arg := range args {
		switch {
		case arg == "--quick":
			o.quick = true
		case arg == "--assert":
			o.assert = true
		case slices.Contains(groups(), arg):
			o.groups = append(o.groups, arg)
		case arg == "all":
			o.groups = append(o.groups, groups()...)
		default:
			return o, fmt.Errorf("unknown argument %q; usage: scripts/bench [--quick] [--assert] [%s|all]",
				arg, strings.Join(groups(), "|"))
		}
	}
	if o.groups == nil {
		o.groups = groups()
	}
	return o, nil
}

func (o options) plan() (p plan, rounds int) {
	if o.quick {
		return plan{slices: 3, slice: 200 * time.Millisecond}, 1
	}
	return plan{slices: 8, slice: time.Second}, 5
}

// measure prints as it goes and returns which demands were missed.
func measure(o options, w io.Writer) (missed []string, err error) {
	p, rounds := o.plan()
	if slices.ContainsFunc(o.groups, isLoad) {
		if missed, err = measureLoad(o, p, w); err != nil {
			return missed, err
		}
	}
	if slices.Contains(o.groups, "start") {
		b, err := measureBirth(rounds)
		if err != nil {
			return missed, err
		}
		b.print(w)
		missed = append(missed, b.demands()...)
	}
	if slices.Contains(o.groups, "verify") {
		more, err := measureVerify(o.contestPlan(), w)
		missed = append(missed, more...)
		if err != nil {
			return missed, err
		}
	}
	return missed, nil
}

// isLoad reports whether a group needs the arena.
func isLoad(group string) bool { return group != "start" && group != "verify" }

func measureLoad(o options, p plan, w io.Writer) (missed []string, err error) {
	a, err := openArena()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	var results []result
	for _, sc := range scenarios(a.cast) {
		if !slices.Contains(o.groups, sc.group) {
			continue
		}
		for _, connections := range concurrencies() {
			r, err := duel(sc, connections, a.serverSide, a.floorSide, p)
			if err != nil {
				return missed, err
			}
			results = append(results, r)
			missed = append(missed, r.demands()...)
		}
	}
	return missed, printResults(w, results)
}

func printResults(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tconns\tserver/s\tfloor/s\tratio\trange\tp50 µs\tp99 µs\tfloor p50\tp99\tcpu µs\tfloor cpu\t")
	for _, r := range results {
		ratios := r.ratios()
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t%.3f\t%.2f–%.2f\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t\n",
			r.scenario.name, r.connections, median(r.server.perSecond), median(r.floor.perSecond),
			median(ratios), slices.Min(ratios), slices.Max(ratios),
			percentile(r.server.latencies, 0.50).Microseconds(), percentile(r.server.latencies, 0.99).Microseconds(),
			percentile(r.floor.latencies, 0.50).Microseconds(), percentile(r.floor.latencies, 0.99).Microseconds(),
			microseconds(r.server.cpuPerRequest()), microseconds(r.floor.cpuPerRequest()))
	}
	return t.Flush()
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
