package metrics

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sources are functions that each scrape calls. They return at once, also while the store hangs. All must be
// set.
type Sources struct {
	Algorithms []string
	Keys       func() []Key // that are published
	Frozen     func() bool  // the wall clock has jumped, and nothing is rotated
	Ready      func() bool
	RSASigner  func() (name string, faults uint64) // what signs RS256, "go" or "libcrypto", and how often libcrypto was wrong

	// Of a store that several servers share. Without one Node is "", and the others say so.
	Node        string                       // id of this server
	NodesLive   func() int                   // servers that are live, this one included
	ClockOffset func() (time.Duration, bool) // by how much the wall clock is ahead of those of the others; false if that is not known yet
	StoreAway   func() bool                  // the store cannot be reached

	StoreBytes, StoreFreeBytes, DiskFreeBytes func() int64

	LoginQueue      func() int
	Verifiers       func() (pinned, behind int) // behind are those of the pinned that came lately and miss a published key
	WebhookWaiting  func() int64
	WebhookOldest   func() time.Duration
	LogLinesDropped func() int64
}

// A Key is a key that signs, or signs next.
type Key struct {
	Alg   string
	Stage string    // "active" or "spare"; others are not exported
	Sign  time.Time // when it signs, or began to
}

// keyStages lists the stages that have a series.
func keyStages() []string { return []string{"active", "spare"} }

// Watch adds the metrics that are read from sources. It is called once.
func (m *Metrics) Watch(s Sources) {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value)
	}
	m.registry.MustRegister(
		&keyCollector{s, prometheus.NewDesc(namespace+"_key_sign_timestamp_seconds",
			"When the key that signs began to, and when the spare begins; 0 if there is no such key.", []string{"alg", "stage"}, nil)},
		gauge("rotation_frozen", "1 while the wall clock is wrong and keys are neither rotated nor erased.",
			func() float64 { return number(s.Frozen()) }),
		gauge("ready", "1 if /readyz answers 200.", func() float64 { return number(s.Ready()) }),
		gauge("rsa_libcrypto", "1 while libcrypto signs RS256, 0 while Go does.", func() float64 { name, _ := s.RSASigner(); return number(name == "libcrypto") }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "rsa_faults_total", Help: "Signatures of libcrypto that were wrong or failed, and that no client got; Go signs after the first.",
		}, func() float64 { _, n := s.RSASigner(); return float64(n) }),
		gauge("nodes_live", "Servers of the store that are live, as this one sees them; 1 if it has the store alone.", func() float64 { return float64(s.NodesLive()) }),
		gauge("clock_offset_seconds", "By how much the wall clock is ahead of the median of all servers of the store; NaN while that is not known.",
			func() float64 { return offset(s.ClockOffset()) }),
		gauge("store_away", "1 while the store cannot be reached; always 0 for a store in this process.", func() float64 { return number(s.StoreAway()) }),
		nodeInfo(s.Node),
		gauge("store_bytes", "Size of the store's file.", func() float64 { return float64(s.StoreBytes()) }),
		gauge("store_free_bytes", "Pages of the store's file that hold nothing and are used before it grows.",
			func() float64 { return float64(s.StoreFreeBytes()) }),
		gauge("disk_free_bytes", "Bytes that the file system of the store has left for the server's user.",
			func() float64 { return float64(s.DiskFreeBytes()) }),
		gauge("login_queue_length", "Passwords that wait to be hashed.", func() float64 { return float64(s.LoginQueue()) }),
		gauge("verifiers_pinned", "Verifiers whose fetches of the key set are followed by name.", func() float64 { n, _ := s.Verifiers(); return float64(n) }),
		gauge("verifiers_behind", "Pinned verifiers that came lately and were served a set without one of the published keys.",
			func() float64 { _, n := s.Verifiers(); return float64(n) }),
		gauge("webhook_backlog", "Events that wait for the webhook's receiver.", func() float64 { return float64(s.WebhookWaiting()) }),
		gauge("webhook_oldest_seconds", "Age of the oldest event that waits; 0 if none does.",
			func() float64 { return s.WebhookOldest().Seconds() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "log_lines_dropped_total", Help: "Log lines that could not be written.",
		}, func() float64 { return float64(s.LogLinesDropped()) }),
		&m.sessions,
	)
}

func nodeInfo(id string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "node_info", Help: "1, with the id of the server among those of its store; empty if it has the store alone.",
		ConstLabels: prometheus.Labels{"node": id},
	})
	info.Set(1)
	return info
}

func offset(d time.Duration, known bool) float64 {
	if !known {
		return math.NaN()
	}
	return d.Seconds()
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// A keyCollector reads the keys once per scrape.
type keyCollector struct {
	sources Sources
	desc    *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *keyCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector. Of several keys in a stage the one that signs first counts: an
// imported spare can wait behind another.
func (c *keyCollector) Collect(ch chan<- prometheus.Metric) {
	keys := c.sources.Keys()
	for _, alg := range c.sources.Algorithms {
		for _, stage := range keyStages() {
			first := 0.0
			for _, k := range keys {
				if at := float64(k.Sign.Unix()); k.Alg == alg && k.Stage == stage && (first == 0 || at < first) {
					first = at
				}
			}
			ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, first, alg, stage)
		}
	}
}
