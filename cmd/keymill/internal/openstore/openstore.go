// Package openstore opens the store that the configuration names, below its tags.
//
//	serve ─── Open ──────────┐                                                 ┌─ the file keymill.db: storage/bolt
//	doctor ── OpenReadOnly ──┴──▶ Store: storage.Store, and what its engine ───┤
//	                              can do besides                               └─ a database: storage/postgres
package openstore

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/storage"
	"keymill/storage/backup"
	"keymill/storage/bolt"
	"keymill/storage/moved"
	"keymill/storage/postgres"
)

// Options are what a server wants to know of its store.
type Options struct {
	// Failed is called once, in its own goroutine, when the store refuses all work from then on. It may be nil.
	Failed func(error)
	// Committed is called after each commit: how long it took, and how many calls shared it. It returns at
	// once. It may be nil.
	Committed func(took time.Duration, calls int)
	// Waiting is called before Open waits for atMost to see whether a migration of the store goes on. It may be nil.
	Waiting func(m moved.Record, atMost time.Duration)
}

// ErrCopied means that another copy of the store is being made.
var ErrCopied = bolt.ErrFollowed

// A Store is an open store.
type Store struct {
	storage.Store
	below   storage.Store    // below the gate of a store that was opened to be served
	file    *bolt.Store      // nil for a store in a database
	engine  *postgres.Engine // nil for a store in a file
	copying atomic.Bool      // a copy of engine is being made
}

// Open opens the store to serve it. An empty store is made if there is none.
func Open(ctx context.Context, c *config.Config, o Options) (*Store, error) {
	if c.IsShared() {
		return openShared(ctx, c, o)
	}
	path := c.Path("keymill.db")
	file, err := bolt.Open(path, bolt.Options{Failed: o.Failed, Committed: o.Committed, Hot: isHot})
	if err != nil {
		return nil, namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToWrite}, err)
	}
	return (&Store{Store: file, file: file}).admit(ctx, 0, o) // the lock keeps a migration out
}

// isHot reports whether most requests read a record and few change it. The epoch is read from the file: by it /readyz notices that
// the file cannot be read.
func isHot(key string) bool {
	kind, _, _ := strings.Cut(key, "/")
	switch kind {
	case "client", "audience", "terms", "user", storage.MovedKey:
		return true
	}
	return false
}

// OpenReadOnly opens a store and changes nothing. No server may have a store in a file. A store in a database can be
// in use.
func OpenReadOnly(ctx context.Context, c *config.Config) (*Store, error) {
	if c.IsShared() {
		s, err := openExisting(ctx, c)
		if err != nil {
			return nil, err
		}
		s.Store = readOnly{s.Store}
		return s, nil
	}
	return OpenFile(c.Path("keymill.db"))
}

// OpenFile opens a store in a file that no server has, and changes nothing. The error matches bolt.ErrInUse if one has.
func OpenFile(path string) (*Store, error) {
	file, err := bolt.OpenReadOnly(path)
	if err != nil {
		return nil, err
	}
	return &Store{Store: file, file: file}, nil
}

// CheckPages reads all pages of a store in a file.
func (s *Store) CheckPages(ctx context.Context) error { return s.file.Check(ctx) }

// A readOnly is a store that refuses writes.
type readOnly struct{ storage.Store }

// Update returns bolt.ErrReadOnly.
func (readOnly) Update(context.Context, func(storage.Tx) error) error { return bolt.ErrReadOnly }

// CheckUnused returns what is in the file of the store and belongs to no record.
func (s *Store) CheckUnused(ctx context.Context) error {
	if s.file == nil {
		return nil
	}
	return s.file.CheckUnused(ctx)
}

// Backup writes a copy of the store to w, while it is in use. The error matches ErrCopied while another copy is being
// made by this process.
func (s *Store) Backup(ctx context.Context, w io.Writer, o backup.Options) (backup.Trailer, error) {
	if s.file != nil {
		return backup.Write(ctx, w, s.file, o)
	}
	if !s.copying.CompareAndSwap(false, true) {
		return backup.Trailer{}, ErrCopied
	}
	defer s.copying.Store(false)
	return backup.WriteSnapshot(ctx, w, s.engine.Snapshot, o)
}

// CommitSince returns when the commit under way began, for which all writers wait. It is zero if there is none, and
// for a store in a database, where each commit has a deadline.
func (s *Store) CommitSince() time.Time {
	if s.file == nil {
		return time.Time{}
	}
	return s.file.FileStatus().CommitSince
}

// FreeBytes returns how much of the file holds nothing, 0 for a store in a database.
func (s *Store) FreeBytes() int64 {
	if s.file == nil {
		return 0
	}
	return s.file.FileStatus().FreeBytes
}

// IsEmpty reports whether the store has no records at all.
func IsEmpty(ctx context.Context, s storage.Store) (empty bool, err error) {
	err = s.View(ctx, func(r storage.Reader) error {
		empty = true
		for _, err := range r.Scan("", "") {
			if err != nil && !errors.Is(err, storage.ErrDamaged) {
				return err
			}
			empty = false
			break
		}
		return nil
	})
	return empty, err
}
