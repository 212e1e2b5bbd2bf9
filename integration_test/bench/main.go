// Bench compares Keymill with a minimal server, the floor, and package jwks with other
// libraries, on the machine it runs on.
//
//	scripts/bench [--quick] [--assert] [--against BINARY] [--only TEXT] [jwks|token|refresh|rs256|metrics|start|verify|store|capacity|all]
//
// For jwks, token and refresh there are three processes: the real binary, set up by its own
// verbs, with metrics and a pinned verifier; the floor, which does the minimum that the same requests need (see floor); and this
// program with the clients. For each scenario and number of connections the two servers are
// loaded in turns, 0.4 s each, never both at once. So the ratio between them depends on the
// code, while the requests per second depend on the machine.
//
//	keymill  ████      ████████      ████
//	floor        ██████        ██████         ─▶ time
//
// There are 24 pairs of slices, in four rounds with servers of their own: two servers of one build differ by some
// percent for as long as they run. It prints one line per scenario and number of connections:
//
//	server/s, floor/s  requests per second, median of the slices
//	p50, p99           latency that the clients measured, over all slices
//	cpu, floor cpu     CPU time of the server's process per request
//	share              floor cpu in proportion to cpu: the median of the pairs, and the middle half of them
//	bound, goal        the lowest median that --assert accepts, and what it is to become
//
// With --against BINARY the second server is that build of Keymill instead of the floor. It is set up in the same way, with
// a store of its own; both have no metrics. ES256 is left out, which an older build does not know. It prints in place of share and bound:
//
//	ratio              of requests per second: the median of the pairs, and their range
//	cpu ratio          cpu in proportion to that of the other build: the median of the pairs, and the middle half of them
//
// Two groups are measured in ten rounds, at 16 connections, with short slices. Each round starts servers of its
// own, because two servers of one build differ by some percent for as long as they run. Compare the cpu ratio: the
// last lines have the median of the rounds. The bound, 1.05, is for that median, and its 95 % confidence interval must
// not exceed it.
//
//	metrics, fifty pairs a round     two servers of this build: the first has metrics.listen and is scraped once a
//	                                 second, and the columns of the floor are of the second, which has no metrics
//	jwks --against BINARY,           this build and the other one: plain requests for the key set, requests that have
//	twenty pairs for each load       its ETag, and both with the name of a pinned verifier in a header and in the URL
//
// The group rs256 loads four servers in turns, in an order that rotates: Keymill built with the tag libcrypto and with
// keys.rsa: libcrypto; the floor, where Go signs; a second floor, which signs with libcrypto and verifies each signature; and
// oidc-provider, a server for Node, with its records in memory. The refresh is without the last. There are 24 turns in
// four rounds. It prints a line for each server that Keymill is compared with:
//
//	server/s, p50, p99, cpu   of Keymill; then those of the server that it is compared with
//	ratio, cpu ratio          Keymill's requests per second, and per second of its processor time, as a multiple of those of
//	                          the other server: the median of the turns, and the middle half of them
//	bound                     the lowest ratio, and the lowest cpu ratio, that --assert accepts; 0 is none
//
// All servers and the clients share the machine's cores. On a machine with few cores the requests per second
// include the clients' own work, which is the same for all servers; cpu does not.
//
// The group verify starts no server: it verifies access tokens in its own process, with
// package jwks and with the other libraries that Go services use. All follow one key set over
// HTTP (see verifier). Each verifies a pool of tokens in slices of 20 ms, in an order that
// rotates. Numbers are compared within a round, and the medians are printed.
//
//	bare        the signature check alone, of a decoded token
//	keymill     first verification of a token
//	cached      the same with a cache that contains the token
//	go-oidc, keyfunc, jwx
//
// It prints one line per verifier; ×16 means that many goroutines at once:
//
//	ns/op       median of the rounds
//	over bare   time beyond the bare check of the same round, median
//	allocs, B   heap allocations and their bytes, counted in a separate run
//	of bare     its time as a share of the bare check's: median, and the middle 80 %
//	of fastest  its time as a share of the fastest library's, in the same way
//
// The group store compares a store in PostgreSQL with a bare loop of pgx, in nine rounds (see sharedstore). It starts a
// PostgreSQL of its own. ratio is that of requests per second, or of p50 where the bound says so: the median of the
// rounds, the lowest and the highest. cpu ratio is how much more processor time the loop takes for a request, and calls a commit
// how many requests shared one.
//
// The group capacity prints the numbers that docs/capacity.md computes with, on PostgreSQLs that it starts. First the bytes
// that sessions take in the table, in its index and in the write-ahead log (see tablesize). Then real servers on
// PostgreSQL, each loaded in turns with one on bbolt, and three with the first of them alone. There are five rounds, with
// servers and a database of their own:
//
//	cpu ratio          processor time of a request as a multiple of that of the other: the median of all pairs of slices
//	middle, rounds     the middle half of the pairs, and the lowest and the highest median of a round
//	PostgreSQL cpu     processor time that PostgreSQL takes for a request
//	WAL                bytes that it writes to its log for a request, which several share
//
// With --only TEXT the groups store and capacity have only the lines whose scenario contains the text, and capacity
// leaves out the bytes of sessions.
//
// The exit code is 1 after a failure. With --assert it is also 1 if a bound is missed.
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

	"keymill/integration_test/bench/sharedstore"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// groups returns the groups that the command line can name.
func groups() []string {
	return []string{"jwks", "token", "refresh", "rs256", "metrics", "start", "verify", "store", "capacity"}
}

// options are those of the command line.
type options struct {
	quick, assert bool
	against       string // the binary of another build, or ""
	only          string // a part of the names of scenarios, or ""
	groups        []string
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
	for n := 0; n < len(args); n++ {
		arg := args[n]
		switch {
		case arg == "--against" && n+1 < len(args):
			n++
			o.against = args[n]
		case arg == "--only" && n+1 < len(args):
			n++
			o.only = args[n]
		case arg == "--quick":
			o.quick = true
		case arg == "--assert":
			o.assert = true
		case slices.Contains(groups(), arg):
			o.groups = append(o.groups, arg)
		case arg == "all":
			o.groups = append(o.groups, groups()...)
		default:
			return o, fmt.Errorf("unknown argument %q; usage: scripts/bench [--quick] [--assert] [--against BINARY] [--only TEXT] [%s|all]",
				arg, strings.Join(groups(), "|"))
		}
	}
	if o.groups == nil {
		o.groups = groups()
	}
	if o.assert && o.against != "" && !slices.Equal(o.groups, []string{"jwks"}) {
		return o, errors.New("--assert with --against has bounds for the group jwks only; name it alone, or leave out one of the two")
	}
	return o, nil
}

// starts returns how often a new server starts in the group start.
func (o options) starts() int {
	if o.quick {
		return 1
	}
	return 5
}

// measure prints each result when it has it, and returns the bounds that are missed.
func measure(o options, w io.Writer) (missed []string, err error) {
	if o.against != "" && slices.Contains(o.groups, "jwks") {
		p, rounds := o.keySetPlan()
		if missed, err = measureKeySet(o.against, p, rounds, w); err != nil {
			return missed, err
		}
	}
	if slices.ContainsFunc(o.groups, o.isLoad) {
		more, err := measureLoad(o, w)
		missed = append(missed, more...)
		if err != nil {
			return missed, err
		}
	}
	if slices.Contains(o.groups, "rs256") {
		more, err := measureRS256(o, w)
		missed = append(missed, more...)
		if err != nil {
			return missed, err
		}
	}
	if slices.Contains(o.groups, "metrics") {
		p, rounds := o.metricsPlan()
		more, err := measureMetrics(p, rounds, w)
		missed = append(missed, more...)
		if err != nil {
			return missed, err
		}
	}
	if slices.Contains(o.groups, "start") {
		b, err := measureStart(o.starts())
		if err != nil {
			return missed, err
		}
		b.print(w)
		missed = append(missed, b.missed()...)
	}
	if slices.Contains(o.groups, "verify") {
		more, err := measureVerify(o.verifyPlan(), w)
		missed = append(missed, more...)
		if err != nil {
			return missed, err
		}
	}
	if slices.Contains(o.groups, "store") {
		more, err := sharedstore.Measure(o.quick, o.only, w)
		missed = append(missed, more...)
		if err != nil {
			return missed, err
		}
	}
	if slices.Contains(o.groups, "capacity") {
		more, err := measureCapacity(o, w)
		missed = append(missed, more...)
		if err != nil {
			return missed, err
		}
	}
	return missed, nil
}

// isLoad reports whether a group needs the server and the floor, or another build for as long as the group takes.
func (o options) isLoad(group string) bool {
	return group == "token" || group == "refresh" || group == "jwks" && o.against == ""
}

func printResults(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tconns\tserver/s\tfloor/s\tratio\trange\tp50 µs\tp99 µs\tfloor p50\tp99\tcpu µs\tfloor cpu\tcpu ratio\tmiddle\t")
	for _, r := range results {
		ratios, cpu := r.ratios(), slices.Sorted(slices.Values(r.cpuRatios()))
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t%.3f\t%.2f–%.2f\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.3f\t%.2f–%.2f\t\n",
			r.scenario.name, r.connections, median(r.server.perSecond), median(r.floor.perSecond),
			median(ratios), slices.Min(ratios), slices.Max(ratios),
			percentile(r.server.latencies, 0.50).Microseconds(), percentile(r.server.latencies, 0.99).Microseconds(),
			percentile(r.floor.latencies, 0.50).Microseconds(), percentile(r.floor.latencies, 0.99).Microseconds(),
			microseconds(r.server.cpuPerRequest()), microseconds(r.floor.cpuPerRequest()),
			median(cpu), cpu[len(cpu)/4], cpu[len(cpu)*3/4])
	}
	return t.Flush()
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
