package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"keymill/integration_test/freeport"
)

const scrapeEvery = time.Second

// metricsPlan has short slices, and many rounds with servers of their own.
func (o options) metricsPlan() (p plan, rounds int) {
	if o.quick {
		return plan{slices: 3, slice: 200 * time.Millisecond}, 1
	}
	return plan{slices: 50, slice: 100 * time.Millisecond}, 10
}

// measureMetrics compares servers with metrics, which are scraped, with servers without them.
func measureMetrics(p plan, rounds int, w io.Writer) (missed []string, err error) {
	var all repeated
	for _, sc := range scenarios() {
		if sc.name == "client_credentials EdDSA" || sc.group == "refresh" {
			all.add(sc)
		}
	}
	for n := range rounds {
		if err := measureMetricsOnce(p, n%2 == 1, all); err != nil {
			return nil, err
		}
	}
	return all.print(w, "metrics", "that without metrics")
}

// measureMetricsOnce does one round and adds it to the results. Of the two servers the one with metrics starts first,
// or the other.
func measureMetricsOnce(p plan, offFirst bool, results repeated) (err error) {
	address, err := freeport.Address()
	if err != nil {
		return err
	}
	settings := []string{"metrics:\n  listen: " + address + "\n", ""}
	targets := make([]target, 2)
	for n := range settings {
		if offFirst {
			n = 1 - n
		}
		running, t, failed := startKeymill("", settings[n])
		if running != nil {
			defer func() { err = errors.Join(err, running.Close()) }()
		}
		if failed != nil {
			return failed
		}
		targets[n] = t
	}
	ctx, cancel := context.WithCancel(context.Background())
	scraped := make(chan error, 1)
	go func() { scraped <- scrape(ctx, address) }()
	defer func() { cancel(); err = errors.Join(err, <-scraped) }()
	return results.round(targets[0], targets[1], p)
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
