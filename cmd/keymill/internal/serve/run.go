package serve

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"keymill/cmd/keymill/internal/connections"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/endpoint/admin"
	"keymill/storage/audit"
)

// How long a stop may take.
const (
	// DrainTime is how long requests in flight may go on after a signal.
	DrainTime = 5 * time.Second

	quiesceTime = 1500 * time.Millisecond // of DrainTime, until no connection is without a request. It takes up to a second

	failedServeTime = 2 * time.Second // after the store failed: readyz fails, JWKS is still served
	failedDrainTime = time.Second     // requests in flight, after failedServeTime

	stopLimit       = 8800 * time.Millisecond // without flushTime
	failedStopLimit = 3800 * time.Millisecond // without flushTime
)

// run serves until ctx ends, and then returns nil, or until the store, a listener or a
// background loop fails.
func (s *server) run(ctx context.Context) error {
	s.recordStart()
	background, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	public, socket := s.publicServer(), s.httpServer(s.endpoints.Admin())
	socket.ConnContext = admin.ConnContext
	ended := s.startLoops(background, &loops)
	go func() { ended <- endedError("public listener", s.servePublic(public)) }()
	go func() { ended <- endedError("admin listener", socket.Serve(s.admin)) }()
	servers := slices.Concat([]*http.Server{public, socket}, s.serveMetrics(ended), s.serveRemote(ended), s.serveVerify(ended))
	close(s.serving)
	s.log.Info("serving", "listen", s.public.Addr().String(), "issuer", s.issuer.URL(), "data", s.config.Data, "database_id", s.database)

	s.notify(func() error { return s.manager.Ready(s.state()) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-s.storeFailed:
	case err = <-ended:
	}
	defer s.limitStop().Stop()
	s.notifyStop()
	s.file.Hurry()
	s.drain(ctx, servers...)
	cancel()
	loops.Wait()
	if failed := s.store.Status().Failed; failed != nil {
		err = failed // whichever loop noticed it, and also during the last requests
	}
	s.recordStop(ctx, err)
	s.releaseLeases(ctx)
	s.flushAuditLines()
	s.close()
	s.log.Info("stopped")
	return err
}

// startLoops runs the background work until ctx ends. The channel has capacity for the
// result of each loop and of all listeners, so that none of them blocks.
func (s *server) startLoops(ctx context.Context, loops *sync.WaitGroup) chan error {
	work := map[string]func(context.Context) error{
		"keys":     s.rings.Run,
		"served":   s.verifiers.Run,
		"audit":    s.chainAudit,
		"damage":   s.damage.run,
		"clean-up": s.issuer.Run,
		"refusals": s.endpoints.Run,
		"verify":   s.verifyRest,
		"migrate":  s.watchMigration,
		"watchdog": func(ctx context.Context) error { return s.manager.Watch(ctx, s.works, s.alive, s.tell) },
	}
	if s.auditLines != nil {
		work["audit.log"] = s.auditLines.Run
	}
	if s.webhook != nil {
		work["webhook"] = s.webhook.Run
	}
	if s.nodes != nil {
		work["nodes"] = s.forgetNodes
	}
	if s.tls != nil {
		work["TLS files"] = s.tls.Run
	}
	if s.metrics != nil {
		work["disk"] = s.watchDisk
		work["sessions"] = func(ctx context.Context) error { return s.metrics.CountSessions(ctx, s.liveSessions) }
	}
	ended := make(chan error, len(work)+5)
	for what, run := range work {
		loops.Go(func() { ended <- endedError(what, run(ctx)) })
	}
	return ended
}

func (s *server) chainAudit(ctx context.Context) error {
	return audit.Run(ctx, s.store, audit.RunConfig{Log: s.log, Damaged: s.damage.add, Hold: s.lease("audit")})
}

func endedError(what string, err error) error {
	return fmt.Errorf("%s ended: %w", what, err)
}

// state is the text that systemctl status shows.
func (s *server) state() string {
	protocol := "http"
	if s.tls != nil {
		protocol = "https"
	}
	return fmt.Sprintf("serving %s on %s", protocol, s.public.Addr())
}

// limitStop ends the process if stopping takes too long. After the store has failed
// nothing is left to save, and the supervisor should start the next process soon.
func (s *server) limitStop() *time.Timer {
	limit := stopLimit
	if s.file.Status().Failed != nil {
		limit = failedStopLimit
	}
	return time.AfterFunc(limit, func() {
		s.log.Error("the server did not stop in time; the process exits now")
		s.queue.Close()
		os.Exit(1)
	})
}

// drain stops accepting connections and lets requests in flight finish. If the store has
// failed, it first goes on serving for a while: verifiers still get the keys from memory,
// and a load balancer sees readyz fail before it sees refused connections.
func (s *server) drain(ctx context.Context, servers ...*http.Server) {
	limit := DrainTime
	if err := s.file.Status().Failed; err != nil {
		s.log.Error("the store failed; stopping, so that a restart reads what is durable", "error", terminal.Plain(err))
		limit = failedDrainTime
		select {
		case <-time.After(failedServeTime):
		case <-ctx.Done():
		}
	}
	bounded, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// What has no request is closed first, and not by Shutdown, see package connections.
	quiet, end := context.WithTimeout(bounded, quiesceTime)
	for _, conns := range []*connections.Listener{s.conns, s.callers, s.askers} {
		if conns != nil {
			conns.Quiesce(quiet)
		}
	}
	end()
	var all sync.WaitGroup
	for _, h := range servers {
		all.Go(func() {
			if h.Shutdown(bounded) != nil {
				s.log.Warn("ending connections whose requests took longer than a stop may take", "limit", limit.String())
				h.Close()
			}
		})
	}
	all.Wait()
}

// close releases what is open, in the opposite order of opening.
func (s *server) close() {
	if s.admin != nil {
		s.admin.Close() // removes the socket
	}
	if s.rings != nil {
		s.rings.Close()
	}
	if s.file != nil {
		if err := s.file.Close(); err != nil {
			s.log.Error("cannot close the store", "error", terminal.Plain(err))
		}
	}
	if s.mark != nil {
		s.mark.Close()
	}
	if s.dir != nil {
		if s.opened {
			s.dir.Release()
		} else {
			s.dir.Undo()
		}
	}
	for _, l := range []net.Listener{s.verify, s.remote, s.monitor, s.public} {
		if l != nil {
			l.Close()
		}
	}
}
