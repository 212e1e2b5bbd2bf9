package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"keymill/issuer"
	"keymill/issuer/endpoint"
	"keymill/issuer/outbox"
	"keymill/issuer/refusal"
	"keymill/issuer/webhook"
	"keymill/keystore"
	"keymill/storage/bolt"
)

// A server holds what serve opened, in the order of opening.
type server struct {
	config *config
	log    *slog.Logger
	master keystore.MasterKey
	secret refusal.Secret // signs the webhook's requests

	public net.Listener
	dir    *dataDir
	store  *bolt.Store
	rings  *keystore.Rings
	outbox *outbox.Outbox // nil without a webhook
	issuer *issuer.Issuer
	face   *endpoint.Server
	hook   *webhook.Sender // nil without webhook.url
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
		s.openPublic, s.openDir, s.openStore, s.openRooms, s.openWebhook, s.seedTrial, s.lookAtDoors, s.openAdmin,
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
	store, err := bolt.Open(s.config.path("keymill.db"), bolt.Options{
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
	if c.WebhookURL != "" {
		s.outbox, err = outbox.Open(ctx, outbox.Config{Store: s.store, Now: rings.Now, WallTime: rings.WallTime})
		if err != nil {
			return err
		}
	}
	s.issuer, err = issuer.Open(ctx, issuer.Config{
		URL:      c.Issuer,
		Insecure: c.Insecure,
		Store:    s.store,
		Keys:     rings,
		Refresh:  issuer.Lifetimes{Grace: c.Grace, Idle: c.Idle, Absolute: c.Absolute},
		Outbox:   s.outbox,
		Log:      s.log,
	})
	if err != nil {
		return err
	}
	s.face, err = endpoint.New(endpoint.Config{
		Issuer:         s.issuer,
		Keys:           rings,
		KeySet:         keys,
		SimpleJWT:      endpoint.SimpleJWT{Client: c.DjangoClient, Prefix: c.DjangoPrefix},
		Browser:        endpoint.Browser{Client: c.SessionClient},
		Advice:         loginAdvice,
		TrustedProxies: c.TrustedProxies,
		DevHosts:       s.devHosts(),
		StoreFailed:    func() error { return s.store.Status().Failed },
		StoreBytes:     func() int64 { return s.store.Status().Bytes },
		Version:        release,
		Log:            s.log,
	})
	return err
}

func (s *server) openWebhook(context.Context) (err error) {
	if s.config.WebhookURL != "" {
		s.hook, err = webhook.New(webhook.Config{URL: s.config.WebhookURL, Secret: s.secret, Outbox: s.outbox, Log: s.log})
	}
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
