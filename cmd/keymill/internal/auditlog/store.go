package auditlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/loginname"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
	"keymill/storage/sealed"
)

// A Store is the store of a server that is stopped, a copy of one, or a store that servers share.
type Store struct {
	// Unverified says why the records cannot be relied on; nil if the master key opens the store and
	// the hash chain is complete. It matches diagnose.ErrNotInUnit if there was nothing to check with.
	Unverified error

	file  *openstore.Store
	store storage.Store // file without tags
}

// OpenStore opens the file at path to read it only, checks its pages, and verifies it with the master
// key of c. It changes nothing. path can also be the URL of a shared store, which can be in use.
func OpenStore(ctx context.Context, path string, c *config.Config) (*Store, error) {
	var file *openstore.Store
	var err error
	if strings.Contains(path, "://") {
		c.Store = path
		if err = c.CheckShared(); err == nil {
			file, err = openstore.OpenReadOnly(ctx, c)
		}
	} else {
		c.Data, c.Store = filepath.Dir(path), ""
		c.Dev = config.IsTrial(c.Data)
		file, err = openFile(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	s := &Store{file: file, store: sealed.Unverified(file)}
	s.Unverified = s.verify(ctx, c)
	return s, nil
}

// openFile opens a file and checks its pages.
func openFile(ctx context.Context, path string) (*openstore.Store, error) {
	store, err := openstore.OpenFile(path)
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
	if err := store.CheckPages(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), store.Close())
	}
	return store, nil
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
func (s *Store) verify(ctx context.Context, c *config.Config) error {
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
