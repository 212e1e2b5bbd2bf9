package metrics

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	countEvery = time.Minute // between the end of a count and the next one

	// rest is how many times as long as a page took the count waits before the next one. So it takes at most a
	// fiftieth of a processor, and a count of a million sessions some minutes.
	rest = 50
)

// A sessionCount is the newest count of live sessions. Whether a session is live depends on its user, its
// client and the time, so no number in the store could say it: they are counted, page by page.
type sessionCount struct {
	newest atomic.Pointer[countedSessions] // nil before the end of the first count
}

type countedSessions struct {
	live  int
	began time.Time
}

// A SessionPage counts the live sessions of one page: the first one if after is "". next is "" after the
// last page.
type SessionPage func(ctx context.Context, after string) (live int, next string, err error)

// CountSessions counts the live sessions again and again until ctx ends, and then returns nil. After an
// error of page the count before stays.
func (m *Metrics) CountSessions(ctx context.Context, page SessionPage) error {
	for ctx.Err() == nil {
		began := time.Now()
		if live, err := countAll(ctx, page); err == nil {
			m.sessions.newest.Store(&countedSessions{live, began})
		}
		pause(ctx, countEvery)
	}
	return nil
}

func countAll(ctx context.Context, page SessionPage) (live int, err error) {
	for after := ""; ; {
		began := time.Now()
		some, next, err := page(ctx, after)
		if live += some; err != nil || next == "" {
			return live, err
		}
		pause(ctx, rest*time.Since(began))
		after = next
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// descs returns the descriptions of both metrics.
func (c *sessionCount) descs() (live, began *prometheus.Desc) {
	return prometheus.NewDesc(namespace+"_sessions", "Live sessions, at the newest count.", nil, nil),
		prometheus.NewDesc(namespace+"_sessions_counted_timestamp_seconds", "When the newest count of sessions began.", nil, nil)
}

// Describe implements prometheus.Collector.
func (c *sessionCount) Describe(ch chan<- *prometheus.Desc) {
	live, began := c.descs()
	ch <- live
	ch <- began
}

// Collect implements prometheus.Collector.
func (c *sessionCount) Collect(ch chan<- prometheus.Metric) {
	n := c.newest.Load()
	if n == nil {
		return
	}
	live, began := c.descs()
	ch <- prometheus.MustNewConstMetric(live, prometheus.GaugeValue, float64(n.live))
	ch <- prometheus.MustNewConstMetric(began, prometheus.GaugeValue, float64(n.began.Unix()))
}
