package serve

import (
	"context"
	"errors"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer"
	"keymill/issuer/adminscope"
	"keymill/storage"
)

// CheckAdminAudience returns an error if the store has an audience with the name of the built-in one, and
// says what to do.
func CheckAdminAudience(ctx context.Context, s storage.Store) error {
	err := issuer.CheckAdminAudience(ctx, s)
	if errors.Is(err, issuer.ErrAdminAudience) {
		return terminal.WithHint(err, `start the version of Keymill that you used before, add an audience with another name, give it to the clients that have this one, and run "keymill audience remove %s"`, adminscope.Audience)
	}
	return err
}
