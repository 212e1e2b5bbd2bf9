package auditlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/loginname"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
	"keymill/storage/sealed"
)

// A Store is the store of a server that is stopped, or a copy of one.
type Store struct {
	// Unverified says why the records cannot be relied on; nil if the master key opens the store and
	// the hash chain is complete. It matches diagnose.ErrNotInUnit if there was nothing to check with.
	Unverified error

	file  *bolt.Store
	store storage.Store // file without tags
}

// OpenStore opens the file at path to read it only, checks its pages, and verifies it with the master
// key of c. It changes nothing.
func OpenStore(ctx context.Context, path string, c *config.Config) (*Store, error) {
	store, err := bolt.OpenReadOnly(path)
	switch {
	case errors.Is(err, bolt.ErrInUse):
		return nil, terminal.WithHint(err, "ask its server: keymill audit tail --data %s", terminal.ShellWord(filepath.Dir(path)))
	case errors.Is(err, fs.ErrPermission):
		return nil, terminal.WithHint(err, "run it as the server's user, or as root")
	case errors.Is(err, fs.ErrNotExist):
		return nil, terminal.WithHint(err, "name the file keymill.db of a stopped server, or a copy of it")
	case err != nil:
		return nil, err
	}
	if err := store.Check(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), store.Close())
	}
	s := &Store{file: store, store: sealed.Unverified(store)}
	s.Unverified = s.verify(ctx, path, c)
	return s, nil
}

// Close closes the file.
func (s *Store) Close() error { return s.file.Close() }

// Read is a Source.
func (s *Store) Read(ctx context.Context, q audit.Query) (audit.Page, error) {
	if err := loginname.FindAudited(ctx, s.store, &q.Filter); err != nil {
		return audit.Page{}, err
	}
	return audit.Read(ctx, s.store, q)
}

// verify checks that the master key belongs to the store and that the chain of records is complete.
func (s *Store) verify(ctx context.Context, path string, c *config.Config) error {
	c.Data = filepath.Dir(path)
	c.Dev = config.IsTrial(c.Data)
	key, _, err := diagnose.MasterKey(c)
	if err != nil {
		if _, damage := audit.Verify(ctx, s.store); damage != nil {
			return damage // which is seen without the key too
		}
		return err
	}
	store, err := keystore.Unlock(ctx, s.file, key)
	if err != nil {
		return err
	}
	if _, err = audit.Verify(ctx, store); err != nil {
		return err // the records are printed as unverified ones
	}
	s.store = store
	return nil
}
