package serve

import (
	"context"
	"errors"
	"io"
	"time"

	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/moved"
)

// migrate takes one step of a migration of the store. Its begin is in the audit log, which is moved too.
func (s *server) migrate(ctx context.Context, q api.MigrationRequest, by string) (api.Migration, error) {
	if q.Step == "begin" {
		err := s.store.Update(ctx, func(tx storage.Tx) error {
			return audit.Append(tx, s.rings.Now(), audit.Event{Action: "store.migrate", By: by, Target: s.database, Detail: map[string]string{"to": q.To}})
		})
		if err != nil && !errors.Is(err, storage.ErrUnavailable) { // another migration has begun, and can be over
			return api.Migration{}, err
		}
	}
	return s.file.Migrate(ctx, q)
}

// migrationRecords writes the records of the store to w.
func (s *server) migrationRecords(ctx context.Context, w io.Writer) error {
	return s.file.MigrationRecords(ctx, w, s.config.Data)
}

// waitForMigration says what a start waits for.
func (s *server) waitForMigration(m moved.Record, atMost time.Duration) {
	s.log.Warn("the store is being moved; waiting to see whether the migration goes on, or was killed", "to", m.To, "since", m.Time, "at_most", atMost)
}

// watchMigration follows a migration of the store.
func (s *server) watchMigration(ctx context.Context) error { return s.file.WatchMigration(ctx, s.log) }
