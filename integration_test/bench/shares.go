package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// loadPlan has the pairs of slices of each round.
func (o options) loadPlan() (p plan, rounds int) {
	if o.quick {
		return plan{slices: 3, slice: 200 * time.Millisecond}, 1
	}
	return plan{slices: 6, slice: 400 * time.Millisecond}, 4
}

// measureLoad compares Keymill with the floor, or with another build, and prints a line for each scenario and number of
// connections.
func measureLoad(o options, w io.Writer) (missed []string, err error) {
	p, rounds := o.loadPlan()
	var results []result
	for _, sc := range scenarios() {
		if !slices.Contains(o.groups, sc.group) || !o.isLoad(sc.group) || sc.only && o.against != "" {
			continue
		}
		for _, connections := range concurrencies() {
			results = append(results, result{scenario: sc, connections: connections})
		}
	}
	for range rounds {
		if err := measureLoadOnce(o.against, p, results); err != nil {
			return nil, err
		}
	}
	if o.against != "" {
		return nil, printResults(w, results)
	}
	for _, r := range results {
		missed = append(missed, r.missed()...)
	}
	return missed, printShares(w, results)
}

// measureLoadOnce does one round and adds it to the results.
func measureLoadOnce(against string, p plan, results []result) (err error) {
	servers, err := startServers(against)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servers.close()) }()
	for i := range results {
		r, err := compare(results[i].scenario, results[i].connections, servers.keymillTarget, servers.floorTarget, p)
		if err != nil {
			return err
		}
		results[i].server.join(r.server)
		results[i].floor.join(r.floor)
	}
	return nil
}

func printShares(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tconns\tserver/s\tfloor/s\tp50 µs\tp99 µs\tfloor p50\tp99\tcpu µs\tfloor cpu\tshare\tmiddle\tbound\tgoal\tpairs\t")
	for _, r := range results {
		shares := slices.Sorted(slices.Values(r.shares()))
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.3f\t%.2f–%.2f\t%.2f\t%.2f\t%d\t\n",
			r.scenario.name, r.connections, median(r.server.perSecond), median(r.floor.perSecond),
			percentile(r.server.latencies, 0.50).Microseconds(), percentile(r.server.latencies, 0.99).Microseconds(),
			percentile(r.floor.latencies, 0.50).Microseconds(), percentile(r.floor.latencies, 0.99).Microseconds(),
			microseconds(r.server.cpuPerRequest()), microseconds(r.floor.cpuPerRequest()),
			median(shares), shares[len(shares)/4], shares[len(shares)*3/4], r.scenario.share, r.scenario.goal, len(shares))
	}
	return t.Flush()
}
