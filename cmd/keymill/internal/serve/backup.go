package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/backup"
	"keymill/storage/bolt"
)

// minBackupChanges is how many bytes may at least change while a copy is made. A larger store may change
// by its own size.
const minBackupChanges = 256 << 20

// backup writes a copy of the store to w.
func (s *server) backup(ctx context.Context, w io.Writer, by string) error {
	key, err := s.rings.BackupKey()
	if err != nil {
		return err
	}
	begun, size := time.Now(), s.storeBytes()
	made, err := s.file.Backup(ctx, w, backup.Options{
		Header: backup.Header{Database: s.database, Program: s.version, Bytes: size},
		Begun: func(ctx context.Context, h *backup.Header) error {
			h.Listed = s.rings.WriteRevoked(context.WithoutCancel(ctx)) // a restore trusts no earlier list
			return s.store.Update(ctx, func(tx storage.Tx) error {
				return audit.Append(tx, s.rings.Now(), audit.Event{Action: "store.backup", By: by, Target: s.database})
			})
		},
		Key: key, Now: s.rings.WallTime, TempDir: s.config.Data, MaxBytes: max(minBackupChanges, size),
	})
	if errors.Is(err, bolt.ErrFollowed) {
		return refusal.New("in_use", "another backup is being made; wait for its end")
	}
	if err != nil && ctx.Err() != nil {
		s.log.Warn("a backup ended, because its reader left", "by", by)
	}
	if err != nil {
		return fmt.Errorf("backup by %s: %w", by, err) // the line of the request has it
	}
	s.log.Info("backup made", "by", by, "records", made.Records, "changes", made.Changes, slog.Duration("took", time.Since(begun).Round(time.Millisecond)))
	return nil
}
