// Package metrics counts what the server does, for Prometheus. docs/metrics.md lists every name and
// label.
//
//	requests ──Begin, Failed, End───┐
//	tokens ────Issued, Refreshed────┼──▶ counters ─────┐
//	commits ───Committed────────────┘                  ├──▶ Serve ──▶ GET /metrics
//	keys, store, queues ◀──────Sources, at each scrape─┘
//
// No label has text of a request. Endpoints come from the table of routes, error codes and outcomes from lists
// in this package, grants and algorithms from those of the server. So the number of series is fixed
// at the start, and a series is there with 0 before its first event, which rate() needs.
//
// A scrape reads numbers in memory: no record of the store, and nothing of its file system. So it answers at
// once also while the disk hangs or the store has failed.
//
// The counters are resolved once, at the start: an event costs some atomic additions and no allocation,
// except for one per request that remembers the status of its answer. A server without metrics has no
// *Metrics, and a nil *Metrics counts nothing.
package metrics

import (
	"bytes"
	"errors"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/time/rate"
)

// namespace begins every name.
const namespace = "keymill"

// Bounds of scrapes. One takes a few milliseconds of processor time, and anyone who reaches the listener
// can ask for it.
const (
	scrapesPerSecond = 10
	scrapesAtOnce    = 20
)

// ErrTooOften means that there are more scrapes than the server answers.
var ErrTooOften = errors.New("too many scrapes")

// A Metrics counts for one server. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	scrapes  *rate.Limiter
	scraping sync.Mutex // one scrape at a time builds its answer

	requests
	tokens
	sessions sessionCount

	commitSeconds prometheus.Histogram
	commitGroup   prometheus.Histogram
}

// New returns a Metrics for a server of that version. It has a registry of its own.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		scrapes:  rate.NewLimiter(scrapesPerSecond, scrapesAtOnce),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "commit_seconds", Help: "Time that one commit of the store took, its sync included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		commitGroup: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "commit_group_size", Help: "Transactions that shared one commit of the store.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128},
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, with the version of the server and of Go as labels.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.commitSeconds, m.commitGroup,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()))
	return m
}

// Committed counts a commit of the store, which so many calls shared.
func (m *Metrics) Committed(took time.Duration, calls int) {
	m.commitSeconds.Observe(took.Seconds())
	m.commitGroup.Observe(float64(calls))
}

// Serve writes all metrics in the text format, or returns an error and has written nothing. A client
// that reads slowly holds its own connection and nothing else.
func (m *Metrics) Serve(w http.ResponseWriter, _ *http.Request) error {
	if !m.scrapes.Allow() {
		return ErrTooOften
	}
	text, err := m.gather()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", string(format()))
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text) // fails only if the client has closed the connection
	return nil
}

func format() expfmt.Format { return expfmt.NewFormat(expfmt.TypeTextPlain) }

func (m *Metrics) gather() ([]byte, error) {
	m.scraping.Lock()
	defer m.scraping.Unlock()
	families, err := m.registry.Gather()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	enc := expfmt.NewEncoder(&text, format())
	for _, family := range families {
		if err := enc.Encode(family); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}
