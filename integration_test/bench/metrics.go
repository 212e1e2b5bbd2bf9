package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"keymill/integration_test/server"
)

// The bound of --assert: how much more processor time the server may take for a request when it counts and is
// scraped.
const (
	maxMetricsRatio = 1.05

	metricsConnections = 16
	scrapeEvery        = time.Second
)

// metricsPlan has short slices, and many rounds with servers of their own: two servers of one build differ by some
// percent for as long as they run.
func (o options) metricsPlan() (p plan, rounds int) {
	if o.quick {
		return plan{slices: 3, slice: 200 * time.Millisecond}, 1
	}
	return plan{slices: 50, slice: 100 * time.Millisecond}, 10
}

// measureMetrics compares servers with metrics, which are scraped, with servers without them.
func measureMetrics(p plan, rounds int, w io.Writer) (missed []string, err error) {
	var all []metricsResult
	for _, sc := range scenarios() {
		if sc.name == "client_credentials EdDSA" || sc.group == "refresh" {
			all = append(all, metricsResult{result: result{scenario: sc, connections: metricsConnections}})
		}
	}
	for n := range rounds {
		if err := measureMetricsOnce(p, n%2 == 1, all); err != nil {
			return nil, err
		}
	}
	var results []result
	for _, r := range all {
		missed = append(missed, r.missed()...)
		r.scenario.name += ", metrics"
		results = append(results, r.result)
	}
	return missed, printResults(w, results)
}

// measureMetricsOnce does one round and adds it to the results. Of the two servers the one with metrics starts first,
// or the other.
func measureMetricsOnce(p plan, offFirst bool, results []metricsResult) (err error) {
	address, err := server.FreeAddress()
	if err != nil {
		return err
	}
	settings := []string{"metrics:\n  listen: " + address + "\n", ""}
	targets := make([]target, 2)
	for n := range settings {
		if offFirst {
			n = 1 - n
		}
		running, t, err := startKeymill("", settings[n])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, running.Close()) }()
		targets[n] = t
	}
	ctx, cancel := context.WithCancel(context.Background())
	scraped := make(chan error, 1)
	go func() { scraped <- scrape(ctx, address) }()
	defer func() { cancel(); err = errors.Join(err, <-scraped) }()
	for n := range results {
		r, err := compare(results[n].scenario, metricsConnections, targets[0], targets[1], p)
		if err != nil {
			return err
		}
		results[n].addRound(r)
	}
	return nil
}

// A metricsResult is the sum of several rounds.
type metricsResult struct {
	result
	rounds []float64 // the median of the ratios of processor time in each
}

func (m *metricsResult) addRound(r result) {
	m.rounds = append(m.rounds, median(r.cpuRatios()))
	m.server.join(r.server)
	m.floor.join(r.floor)
}

// scrape reads the metrics again and again, as Prometheus does, until ctx ends.
func scrape(ctx context.Context, address string) error {
	tick := time.NewTicker(scrapeEvery)
	defer tick.Stop()
	for {
		r, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return fmt.Errorf("scrape: %w", err)
		}
		n, err := io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || n < 1000 {
			return fmt.Errorf("scrape: status %d, %d bytes, %w", r.StatusCode, n, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// missed returns whether the ratio of processor time is over its bound, or may be.
func (m metricsResult) missed() []string {
	ratio := median(m.rounds)
	low, high := medianWithin(m.rounds)
	switch {
	case ratio > maxMetricsRatio:
		return []string{fmt.Sprintf("%s: processor time %.3f of that without metrics, wanted at most %.2f", m.scenario.name, ratio, maxMetricsRatio)}
	case high > maxMetricsRatio:
		return []string{fmt.Sprintf("%s: the rounds show only that the median is %.3f to %.3f, and the bound is %.2f; use a quieter machine",
			m.scenario.name, low, high, maxMetricsRatio)}
	}
	return nil
}
