package serve

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"keymill/cmd/keymill/internal/connections"
	"keymill/issuer"
	"keymill/issuer/endpoint/metrics"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage/durable"
)

// maxMonitorConnections is enough for several scrapers and health checks. They are among the files that the limit of
// public connections leaves free.
const maxMonitorConnections = 50

// openMetrics takes the port of metrics.listen, and makes the counters for what is opened after it.
// Without the setting there are none, and nothing is counted.
func (s *server) openMetrics(context.Context) (err error) {
	if s.config.MetricsListen == "" {
		return nil
	}
	s.monitor, err = listenAt(s.config, "metrics.listen", s.config.MetricsListen)
	if err == nil {
		s.metrics = metrics.New(s.version)
	}
	return err
}

// warnOfMetrics logs that metrics.listen is not loopback. Metrics have no names and no secrets, but they tell how many
// users log in, and when the server is in trouble.
func (s *server) warnOfMetrics() {
	if s.monitor == nil {
		return
	}
	address := s.monitor.Addr().String()
	if host, _, err := net.SplitHostPort(address); err == nil && !jwks.IsLoopback(host) {
		s.log.Warn("metrics.listen is not loopback: anyone who reaches it can read numbers about the server",
			"metrics", address, "type", "listen on 127.0.0.1, or let a firewall admit only your Prometheus")
	}
}

// diskNumbers are read from the file system every few seconds, in bytes. A scrape must not ask it, because a call can
// hang as long as the disk does.
type diskNumbers struct{ file, free, left atomic.Int64 }

const diskEvery = 5 * time.Second

// watchDisk reads the numbers again and again. It returns nil when ctx ends.
func (s *server) watchDisk(ctx context.Context) error {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		s.disk.file.Store(s.storeBytes())
		s.disk.free.Store(s.file.FreeBytes())
		s.readDiskLeft()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// storeBytes returns the size of the store, 0 if it is not known.
func (s *server) storeBytes() int64 { return max(0, s.file.Status().Bytes) }

// readDiskLeft reads what the disk has left. If that is not known, it looks full and not empty.
func (s *server) readDiskLeft() {
	left, _ := durable.Free(s.config.Data)
	s.disk.left.Store(left)
}

// watchMetrics tells the metrics where to read numbers. None of these functions reads a record or asks the
// file system.
func (s *server) watchMetrics(context.Context) error {
	if s.metrics == nil {
		return nil
	}
	sources := metrics.Sources{
		Algorithms:      s.config.Algorithms,
		Keys:            s.signingKeys,
		Frozen:          func() bool { return s.rings.Status().Frozen },
		Ready:           s.endpoints.Ready,
		RSASigner:       func() (string, uint64) { rsa := s.rings.RSASigner(); return rsa.Signer, rsa.Faults },
		Node:            s.nodes.ID(),
		NodesLive:       s.nodes.Count,
		ClockOffset:     s.nodes.Offset,
		StoreAway:       func() bool { return s.file.Status().Away != nil },
		StoreBytes:      s.disk.file.Load,
		StoreFreeBytes:  s.disk.free.Load,
		DiskFreeBytes:   s.disk.left.Load,
		LoginQueue:      s.issuer.LoginQueue,
		Verifiers:       s.verifiers.Count,
		WebhookWaiting:  func() int64 { return 0 },
		WebhookOldest:   func() time.Duration { return 0 },
		LogLinesDropped: s.queue.all.Load,
	}
	if s.webhook != nil {
		sources.WebhookWaiting, sources.WebhookOldest = s.outbox.Waiting, s.webhook.Oldest
	}
	s.metrics.Watch(sources)
	return nil
}

// signingKeys returns the keys that sign, and those that sign next.
func (s *server) signingKeys() (list []metrics.Key) {
	keys, err := s.rings.List(context.Background())
	if err != nil {
		return nil // so that the metrics show that no key is known
	}
	for _, k := range keys {
		if k.Stage == keystore.Active || k.Stage == keystore.Spare {
			list = append(list, metrics.Key{Alg: k.Alg, Stage: string(k.Stage), Sign: k.Sign})
		}
	}
	return list
}

// liveSessions is a metrics.SessionPage.
func (s *server) liveSessions(ctx context.Context, after string) (live int, next string, err error) {
	page, err := s.issuer.Sessions(ctx, issuer.SessionQuery{After: after, Limit: 1000})
	for _, session := range page.Sessions {
		if session.State == "live" {
			live++
		}
	}
	return live, page.Next, err
}

// serveMetrics serves metrics and health, if metrics.listen is set, and returns the server.
func (s *server) serveMetrics(ended chan<- error) []*http.Server {
	if s.monitor == nil {
		return nil
	}
	conns := connections.New(s.monitor, connections.Config{
		Max: maxMonitorConnections, Log: s.log, Hint: "find out who holds those of metrics.listen, and admit only your Prometheus",
	})
	monitor := s.watched(conns, s.endpoints.Monitor())
	go func() { ended <- endedError("metrics listener", monitor.Serve(conns)) }()
	s.log.Info("serving metrics", "metrics", s.monitor.Addr().String())
	return []*http.Server{monitor}
}
