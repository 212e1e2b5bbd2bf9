package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"keymill/integration_test/server"
)

// The bound of --assert: how much more processor time the server may take for a request when it counts and is
// scraped. Pairs that differ among themselves by more than half of the bar show nothing.
const (
	maxMetricsRatio = 1.05
	maxMetricsHalf  = (maxMetricsRatio - 1) / 2

	metricsConnections = 16
	scrapeEvery        = time.Second
)

// metricsPlan has the same number of pairs as a comparison of two builds.
func (o options) metricsPlan() plan {
	if o.quick {
		return plan{slices: 3, slice: 200 * time.Millisecond}
	}
	return plan{slices: 24, slice: time.Second}
}

// measureMetrics compares a server with metrics, which is scraped, with one without them.
func measureMetrics(p plan, w io.Writer) (missed []string, err error) {
	address, err := server.FreeAddress()
	if err != nil {
		return nil, err
	}
	on, onTarget, err := startKeymill("", "metrics:\n  listen: "+address+"\n")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, on.Close()) }()
	off, offTarget, err := startKeymill("", "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, off.Close()) }()
	ctx, cancel := context.WithCancel(context.Background())
	scraped := make(chan error, 1)
	go func() { scraped <- scrape(ctx, address) }()
	defer func() { cancel(); err = errors.Join(err, <-scraped) }()
	var results []result
	for _, sc := range scenarios() {
		if sc.name != "client_credentials EdDSA" && sc.group != "refresh" {
			continue
		}
		r, err := compare(sc, metricsConnections, onTarget, offTarget, p)
		if err != nil {
			return missed, err
		}
		r.scenario.name += ", metrics"
		results, missed = append(results, r), append(missed, r.missedMetrics()...)
	}
	return missed, printResults(w, results)
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

// missedMetrics returns whether the ratio of processor time is over its bound, or shows nothing.
func (r result) missedMetrics() []string {
	ratios := slices.Sorted(slices.Values(r.cpuRatios()))
	low, high := ratios[len(ratios)/4], ratios[len(ratios)*3/4]
	switch {
	case median(ratios) > maxMetricsRatio:
		return []string{fmt.Sprintf("%s: processor time %.3f of that without metrics, wanted at most %.2f", r.scenario.name, median(ratios), maxMetricsRatio)}
	case (high-low)/2 > maxMetricsHalf:
		return []string{fmt.Sprintf("%s: half of the pairs differ by %.2f to %.2f, which is too much for a bound of %.2f; use a quieter machine",
			r.scenario.name, low, high, maxMetricsRatio)}
	}
	return nil
}
