package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"keymill/issuer/endpoint/admin"
	"keymill/storage/audit"
)

// How long an end may take.
const (
	drain  = 5 * time.Second // requests in flight, after a signal
	linger = 2 * time.Second // the store failed: readyz says so and JWKS is still served

	drainFailed  = time.Second // requests in flight, after linger
	stopWithin   = 9 * time.Second
	failedWithin = 4500 * time.Millisecond
)

// run serves until ctx ends, which is no error, or until the store, a listener or a loop
// fails. stopSignals gives the signals back to the system.
func (s *server) run(ctx context.Context, stopSignals func()) error {
	background, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	ended := s.startLoops(background, &loops)
	public, socket := s.httpServer(s.face.Public()), s.httpServer(s.face.Admin())
	socket.ConnContext = admin.ConnContext
	go func() { ended <- ending("public listener", public.Serve(s.public)) }()
	go func() { ended <- ending("admin listener", socket.Serve(s.admin)) }()
	s.log.Info("serving", "listen", s.public.Addr().String(), "issuer", s.issuer.URL(), "data", s.config.Data)

	var err error
	select {
	case <-ctx.Done():
		stopSignals() // from here a second signal ends the process at once
	case err = <-s.failed:
	case err = <-ended:
	}
	defer s.deadline().Stop()
	s.farewell(ctx, public, socket)
	cancel()
	loops.Wait()
	if err == nil {
		err = s.store.Status().Failed // perhaps while the last requests were served
	}
	s.close()
	s.log.Info("stopped")
	return err
}

// startLoops runs what works in the background until ctx ends. The channel has room for each
// loop and both listeners.
func (s *server) startLoops(ctx context.Context, loops *sync.WaitGroup) chan error {
	work := map[string]func(context.Context) error{
		"keys":     s.rings.Run,
		"audit":    func(ctx context.Context) error { return audit.Run(ctx, s.store) },
		"clean-up": s.issuer.Run,
		"refusals": s.face.Run,
	}
	if s.hook != nil {
		work["webhook"] = s.hook.Run
	}
	ended := make(chan error, len(work)+2)
	for what, run := range work {
		loops.Go(func() { ended <- ending(what, run(ctx)) })
	}
	return ended
}

func ending(what string, err error) error {
	return fmt.Errorf("%s ended: %w", what, err)
}

func (s *server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    16 << 10,
		// Else "OPTIONS *" is answered without a look at the Host.
		DisableGeneralOptionsHandler: true,
		// Mostly strangers that hang up in a handshake: nothing to act on.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// deadline ends a process that does not end by itself. After a failed store nothing is
// left to save, and the supervisor should start the next process soon.
func (s *server) deadline() *time.Timer {
	within := stopWithin
	if s.store.Status().Failed != nil {
		within = failedWithin
	}
	return time.AfterFunc(within, func() {
		s.log.Error("did not stop in time")
		os.Exit(1)
	})
}

// farewell stops accepting and lets requests in flight finish. When the store has failed,
// verifiers still get the keys from memory for a while, so that the balancer sees readyz
// fail before it sees connections refused.
func (s *server) farewell(ctx context.Context, servers ...*http.Server) {
	grace := drain
	if err := s.store.Status().Failed; err != nil {
		s.log.Error("the store failed; ending, so that a restart reads what is durable", "error", err)
		grace = drainFailed
		select {
		case <-time.After(linger):
		case <-ctx.Done():
		}
	}
	bounded, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	var all sync.WaitGroup
	for _, h := range servers {
		all.Go(func() {
			if h.Shutdown(bounded) != nil {
				h.Close()
			}
		})
	}
	all.Wait()
}

// close gives back what is open, last first.
func (s *server) close() {
	if s.admin != nil {
		s.admin.Close() // removes the socket
	}
	if s.rings != nil {
		s.rings.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("closing the store", "error", err)
		}
	}
	if s.dir != nil {
		if s.opened {
			s.dir.release()
		} else {
			s.dir.abandon()
		}
	}
	if s.public != nil {
		s.public.Close()
	}
}
