package openstore

import (
	"context"
	"errors"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/moved"
	"keymill/storage/optimistic"
	"keymill/storage/postgres"
)

// openShared opens the database to serve it, and makes its tables if the role may and there are none.
func openShared(ctx context.Context, c *config.Config, o Options) (*Store, error) {
	s, err := openEngine(ctx, c, true, optimistic.Options{Committed: o.Committed})
	if err != nil {
		return nil, err
	}
	return s.admit(ctx, moved.FreeAfter, o)
}

// openExisting opens a database that has the tables.
func openExisting(ctx context.Context, c *config.Config) (*Store, error) {
	s, err := openEngine(ctx, c, false, optimistic.Options{})
	if errors.Is(err, postgres.ErrNoTables) {
		err = terminal.WithHint(err, "the URL names another database; or this is the first start: run %q", c.InitCommand())
	}
	return s, err
}

// Hurry says that the server stops, so that nothing waits any longer for a database that is away.
func (s *Store) Hurry() {
	if s.engine != nil {
		s.engine.Hurry()
	}
}

func openEngine(ctx context.Context, c *config.Config, create bool, o optimistic.Options) (*Store, error) {
	password, err := c.StorePassword()
	if err != nil {
		return nil, err
	}
	engine, err := postgres.OpenEngine(ctx, postgres.Config{URL: c.Store, Password: password, Create: create})
	if err != nil {
		return nil, err
	}
	return &Store{Store: engine.NewStore(o), engine: engine}, nil
}
