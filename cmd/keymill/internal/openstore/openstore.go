// Package openstore opens the store that the configuration names, below its tags.
//
//	serve ─── Open ──────────┐
//	doctor ── OpenReadOnly ──┴──▶ Store: storage.Store, and what depends on its engine
package openstore

import (
	"context"
	"io"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/storage"
	"keymill/storage/backup"
	"keymill/storage/bolt"
)

// Options are what a server wants to know of its store.
type Options struct {
	// Failed is called once, in its own goroutine, when the store refuses all work from then on. It may be nil.
	Failed func(error)
	// Committed is called after each commit: how long it took, and how many calls shared it. It returns at
	// once. It may be nil.
	Committed func(took time.Duration, calls int)
}

// A Store is an open store.
type Store struct {
	storage.Store
	file *bolt.Store
}

// Open opens the store to serve it. An empty store is made if there is none.
func Open(c *config.Config, o Options) (*Store, error) {
	path := c.Path("keymill.db")
	file, err := bolt.Open(path, bolt.Options{Failed: o.Failed, Committed: o.Committed})
	if err != nil {
		return nil, namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToWrite}, err)
	}
	return &Store{file, file}, nil
}

// OpenReadOnly opens a store that no server has, and changes nothing.
func OpenReadOnly(c *config.Config) (*Store, error) {
	file, err := bolt.OpenReadOnly(c.Path("keymill.db"))
	if err != nil {
		return nil, err
	}
	return &Store{file, file}, nil
}

// CheckUnused returns what is in the file of the store and belongs to no record.
func (s *Store) CheckUnused(ctx context.Context) error { return s.file.CheckUnused(ctx) }

// Backup writes a copy of the store to w, while it is in use. The error matches bolt.ErrFollowed while another
// copy is being made.
func (s *Store) Backup(ctx context.Context, w io.Writer, o backup.Options) (backup.Trailer, error) {
	return backup.Write(ctx, w, s.file, o)
}

// CommitSince returns when the commit under way began, for which all writers wait. It is zero if there is none.
func (s *Store) CommitSince() time.Time { return s.file.FileStatus().CommitSince }

// FreeBytes returns how much of the file holds nothing.
func (s *Store) FreeBytes() int64 { return s.file.FileStatus().FreeBytes }
