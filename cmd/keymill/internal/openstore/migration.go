package openstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/backup"
	"keymill/storage/moved"
)

// admit refuses a store that must not be served because of a migration, and makes Updates fail as soon as one begins.
// It waits before it frees a store from a migration that was killed, see moved.Admit.
func (s *Store) admit(ctx context.Context, wait time.Duration, o Options) (*Store, error) {
	err := moved.Admit(ctx, s.Store, wait, func(m moved.Record) {
		if o.Waiting != nil {
			o.Waiting(m, wait)
		}
	})
	if err != nil && !errors.Is(err, storage.ErrBroken) { // of which the next steps of a start say more
		s.Close()
		if refused := (*moved.Error)(nil); errors.As(err, &refused) {
			err = terminal.WithHint(err, "%s", refused.Hint())
		}
		return nil, err
	}
	s.below = s.Store
	s.Store = moved.Gate{Store: s.below}
	return s, nil
}

// WatchMigration logs what a migration does to the store, see moved.Watch.
func (s *Store) WatchMigration(ctx context.Context, log *slog.Logger) error {
	return moved.Watch(ctx, s.below, log)
}

// MigrationWarnings says that a migration stops all changes. Nothing is read from a database that is away.
func (s *Store) MigrationWarnings(ctx context.Context) []api.Warning {
	if s.below.Status().Away != nil {
		return nil
	}
	m, err := moved.Of(ctx, s.below)
	if err != nil || m == nil { // others say what is wrong with the store
		return nil
	}
	refused := &moved.Error{Record: *m}
	return []api.Warning{{Check: "migration", Detail: terminal.Plain(refused) + "; " + refused.Hint()}}
}

// Migrate takes one step of a migration of the store.
func (s *Store) Migrate(ctx context.Context, q api.MigrationRequest) (api.Migration, error) {
	if err := checkStep(q); err != nil {
		return api.Migration{}, err
	}
	var meta storage.Meta
	if err := s.View(ctx, func(r storage.Reader) (err error) {
		meta, err = storage.ReadMeta(r)
		return err
	}); err != nil {
		return api.Migration{}, err
	}
	step := moved.Request{Step: q.Step, Over: q.Over, Record: moved.Record{Run: q.Run, From: q.From, To: q.To, Database: meta.DatabaseID}}
	now, err := moved.Do(ctx, s.below, step)
	refused := (*moved.Error)(nil)
	if errors.As(err, &refused) || errors.Is(err, moved.ErrLost) {
		return api.Migration{}, refusal.New("in_use", "%s", err.Error())
	}
	a := api.Migration{Database: meta.DatabaseID, Schema: meta.Schema, Created: meta.Created, Trial: meta.Dev, Bytes: s.Status().Bytes}
	if now != nil {
		a.State, a.Run, a.From, a.To, a.Since, a.Beat = string(now.State), now.Run, now.From, now.To, &now.Time, now.Beat
	}
	return a, err
}

func checkStep(q api.MigrationRequest) error {
	switch q.Step {
	case "look", "free":
		return nil
	case "begin", "renew", "finish":
		if q.Run == "" || q.Step == "begin" && (q.From == "" || q.To == "") {
			return refusal.New("invalid_request", "the step %s needs run, and begin needs from and to", q.Step)
		}
		return nil
	}
	return refusal.New("invalid_request", "step must be look, begin, renew, finish or free")
}

// MigrationRecords writes the records of a store that is being moved to w, as a backup has them.
func (s *Store) MigrationRecords(ctx context.Context, w io.Writer, tempDir string) error {
	if m, err := moved.Of(ctx, s.below); err != nil {
		return err
	} else if m == nil {
		return refusal.New("in_use", "the store is not being moved, so it would change while it is copied")
	}
	_, err := s.Backup(ctx, w, backup.Options{Now: time.Now, TempDir: tempDir, MaxBytes: 1 << 20, Header: backup.Header{Bytes: s.Status().Bytes}})
	if errors.Is(err, ErrCopied) {
		return refusal.New("in_use", "a backup is being made; wait for its end")
	}
	if err != nil {
		err = fmt.Errorf("copy the records for a migration: %w", err)
	}
	return err
}
