package serve

import (
	"context"
	"errors"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
)

// identify checks that this is the store that the configuration means, before anything is written
// to it.
func (s *server) identify(ctx context.Context) error {
	err := s.store.View(ctx, func(r storage.Reader) error {
		meta, err := storage.ReadMeta(r)
		if err != nil {
			return err
		}
		s.database = meta.DatabaseID
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil // openKeys says whether the store is empty or damaged
	}
	if err != nil {
		return err
	}
	if err := s.config.CheckDatabase(s.database); err != nil {
		return terminal.WithHint(err, "the directory or the mounted volume is the wrong one; or, if this is the right store, correct database_id")
	}
	return nil
}
