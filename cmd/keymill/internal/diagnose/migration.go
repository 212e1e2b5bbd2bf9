package diagnose

import (
	"context"
	"errors"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/moved"
)

// checkMigration says whether the store is being moved or was moved. Its record has no tag, so a writer of the store can
// have put it there.
func (d *Doctor) checkMigration(ctx context.Context) {
	m, err := moved.Of(ctx, d.store)
	switch {
	case m != nil:
		fault := &moved.Error{Record: *m}
		d.findings.add("migration", "", terminal.WithHint(fault, "%s. The record has no tag: if no one has run keymill migrate, a writer of the store has put it there", fault.Hint()))
	case errors.Is(err, storage.ErrDamaged):
		d.findings.add("migration", "", terminal.WithHint(err, "keymill migrate --abort --from STORE removes it"))
	}
}
