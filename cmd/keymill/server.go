package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"keymill/issuer"
	"keymill/issuer/endpoint"
	"keymill/keystore"
	"keymill/storage"
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

// A server holds what serve opened, in the order of opening.
type server struct {
	config *config
	log    *slog.Logger
	master keystore.MasterKey

	public net.Listener
	dir    *dataDir
	store  *storage.Bolt
	rings  *keystore.Rings
	issuer *issuer.Issuer
	face   *endpoint.Server
	admin  net.Listener

	failed chan error // the store's unknown outcome, once
	opened bool       // all of the above is open: the directory may keep what was made
}

// open takes the port, the directory, the store and the socket. What can fail without
// changing the disk comes first. After an error, close gives back what is open and takes
// away a lock, a socket and an empty directory that were made; a store that was made stays,
// and so does the master key that --dev made for it.
func (s *server) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.openPublic, s.openDir, s.openStore, s.openRooms, s.seedTrial, s.openAdmin,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.opened = true
	return nil
}

func (s *server) openPublic(context.Context) error {
	l, err := listen(s.config)
	if err != nil {
		return err
	}
	s.public = l
	if s.config.dev && s.config.Issuer == "" {
		// The real port: --listen 127.0.0.1:0 takes any that is free.
		s.config.Issuer = "http://" + l.Addr().String()
	}
	return nil
}

func (s *server) openDir(context.Context) error {
	dir, err := openDataDir(s.config.Data)
	if err != nil {
		return err
	}
	s.dir = dir
	// Looked at here, as afterwards the store is written.
	if info, err := os.Lstat(s.config.path("admin.sock")); err == nil && info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is in the way: it is not a socket", s.config.path("admin.sock"))
	}
	if s.config.dev {
		s.master, err = devMasterKey(s.config)
	}
	return err
}

func (s *server) openStore(context.Context) error {
	s.failed = make(chan error, 1)
	store, err := storage.OpenBolt(s.config.path("keymill.db"), storage.BoltOptions{
		Failed: func(err error) { s.failed <- err },
	})
	if err != nil {
		return err
	}
	s.store = store
	return nil
}

func (s *server) openRooms(ctx context.Context) error {
	c := s.config
	keys := endpoint.NewKeySet(c.MaxAge)
	rings, err := keystore.Open(ctx, s.store, keystore.Config{
		Algorithms:  c.Algorithms,
		RotateEvery: c.RotateEvery,
		Propagation: c.Propagation,
		MaxAge:      c.MaxAge,
		Master:      s.master,
		Dev:         c.dev,
		Changed:     keys.Publish,
		Log:         s.log,
	})
	if err != nil {
		return err
	}
	s.rings = rings
	s.issuer, err = issuer.Open(ctx, issuer.Config{URL: c.Issuer, Insecure: c.Insecure, Store: s.store, Keys: rings})
	if err != nil {
		return err
	}
	s.face, err = endpoint.New(endpoint.Config{
		Issuer:         s.issuer,
		Keys:           rings,
		KeySet:         keys,
		TrustedProxies: c.TrustedProxies,
		DevHosts:       s.devHosts(),
		StoreFailed:    func() error { return s.store.Status().Failed },
		StoreBytes:     func() int64 { return s.store.Status().Bytes },
		Version:        release,
		Log:            s.log,
	})
	return err
}

// seedTrial makes the audiences and clients of --dev.
func (s *server) seedTrial(ctx context.Context) error {
	if !s.config.dev {
		return nil
	}
	return seed(ctx, s.config, s.issuer)
}

// openAdmin listens on the socket. The lock is held, so whatever socket is there was left
// by a process that is gone.
func (s *server) openAdmin(context.Context) error {
	path := s.config.path("admin.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.dir.tighten(); err != nil {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	s.admin = l
	return os.Chmod(path, 0o600)
}

// run serves until ctx ends, which is no error, or until the store, a listener or a loop
// fails. stopSignals gives the signals back to the system.
func (s *server) run(ctx context.Context, stopSignals func()) error {
	background, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 4) // one of each goroutine below
	var loops sync.WaitGroup
	loops.Go(func() { ended <- ending("keys", s.rings.Run(background)) })
	loops.Go(func() { ended <- ending("audit", audit.Run(background, s.store)) })
	public, admin := s.httpServer(s.face.Public()), s.httpServer(s.face.Admin())
	admin.ConnContext = endpoint.AdminConnContext
	go func() { ended <- ending("public listener", public.Serve(s.public)) }()
	go func() { ended <- ending("admin listener", admin.Serve(s.admin)) }()
	s.log.Info("serving", "listen", s.public.Addr().String(), "issuer", s.issuer.URL(), "data", s.config.Data)

	var err error
	select {
	case <-ctx.Done():
		stopSignals() // from here a second signal ends the process at once
	case err = <-s.failed:
	case err = <-ended:
	}
	defer s.deadline().Stop()
	s.farewell(ctx, public, admin)
	cancel()
	loops.Wait()
	if err == nil {
		err = s.store.Status().Failed // perhaps while the last requests were served
	}
	s.close()
	s.log.Info("stopped")
	return err
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
