package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
)

// Init creates the store of o.Config, whose CheckStore has passed, and returns its database id. The
// directory is created if it is missing; its parent must exist. A store that exists is an error
// and is not changed. After an interrupted Init, another one completes the store.
func Init(ctx context.Context, o Options) (databaseID string, err error) {
	s := &server{
		config: o.Config, version: o.Version, log: slog.New(slog.DiscardHandler),
		create: true, createdBy: fmt.Sprintf("uid:%d", os.Getuid()),
	}
	if err := s.config.CheckMayCreate(); err != nil {
		return "", err
	}
	if err := s.readMasterKey(); err != nil {
		return "", err
	}
	defer s.close()
	for _, step := range []func(context.Context) error{s.openDir, s.openStore} {
		if err := step(ctx); err != nil {
			return "", err
		}
	}
	id, err := keystore.Create(ctx, s.file, s.keyConfig(), s.createdBy, s.version)
	if errors.Is(err, keystore.ErrExists) {
		hint := "serve it with \"keymill serve\", or name another directory with --data DIR"
		if s.config.IsShared() {
			hint = "serve it with \"keymill serve\", also on other machines, or name another database"
		}
		return "", terminal.WithHint(fmt.Errorf("%s holds a store already, with the database id %s", s.config.StorePlace(), id), "%s", hint)
	}
	s.opened = err == nil
	return id, err
}

// findStore returns an error if there is no store and this start must not create one. It comes before
// anything is created on disk: a mistyped directory or a volume that is not mounted would become
// a new issuer, with keys that no service and no session knows.
func (s *server) findStore() error {
	c := s.config
	if c.IsShared() {
		return nil // an empty one is found when it is open
	}
	_, err := os.Lstat(c.Path("keymill.db"))
	if !errors.Is(err, fs.ErrNotExist) {
		return nil // datadir.Open says what else is wrong
	}
	if s.mayCreate() {
		return nil
	}
	path, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	const reason = "the directory is mistyped or its volume is not mounted"
	err = c.SettingError("data", "there is no store at %s", path)
	if c.DatabaseID != "" {
		return terminal.WithHint(err, reason+"; none is created, because database_id names a store that exists: %s", c.DatabaseID)
	}
	return terminal.WithHint(err, reason+"; or this is the first start: as the server's user, run %q", c.InitCommand())
}

// emptyStore returns the error of a start that found a store without records.
func (s *server) emptyStore() error {
	c := s.config
	if !c.IsShared() {
		return terminal.WithHint(fmt.Errorf("%s is empty, because its creation was interrupted", c.Path("keymill.db")),
			"as the server's user, run %q again", c.InitCommand())
	}
	err := c.SettingError("store", "there is no store in %s: the database is empty", c.StorePlace())
	if c.DatabaseID != "" {
		return terminal.WithHint(err, "the URL names another database; none is created, because database_id names a store that exists: %s", c.DatabaseID)
	}
	return terminal.WithHint(err, "the URL names another database; or this is the first start: run %q", c.InitCommand())
}

// mayCreate reports whether this start creates a store that is missing. database_id names a store
// that exists somewhere, so then it does not.
func (s *server) mayCreate() bool { return s.create && s.config.DatabaseID == "" }

// createStore makes a store of an empty one, if this start may create it.
func (s *server) createStore(ctx context.Context) error {
	if !s.mayCreate() {
		return nil
	}
	id, err := keystore.Create(ctx, s.file, s.keyConfig(), s.createdBy, s.version)
	if errors.Is(err, keystore.ErrExists) {
		return nil
	}
	if err == nil && !s.config.Dev {
		s.log.Info("created the store", "data", s.config.StorePlace(), "database_id", id)
	}
	return err
}
