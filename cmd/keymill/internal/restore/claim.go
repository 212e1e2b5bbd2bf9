package restore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/record"
	"keymill/storage"
)

// claimRecord is the key of the record of the restore that fills a database. It goes with the transaction that makes the
// store, so a store never has it. Until then no server starts on the database, and its error says why.
const claimRecord = storage.RestoreKey

// A claim is the record of one run. Each transaction of a run asks whether the record is its own, so the records of two
// runs never mix: the run that begins last has the database, also if the one before was killed, and the one before
// ends with errClaimed. Otherwise it would have to be known whether that one is still at work.
type claim struct {
	Run   string    `json:"run"` // random
	Begun time.Time `json:"begun"`
}

var errClaimed = errors.New("another restore into the database has begun in the meantime, and goes on")

func newClaim() claim { return claim{rand.Text(), time.Now().UTC()} }

// take makes the database that of the run, unless it has become a store.
func (c claim) take(ctx context.Context, target storage.Store) error {
	return target.Update(ctx, func(tx storage.Tx) error {
		if err := openstore.Unidentified(tx); err != nil {
			return err
		}
		return record.PutJSON(tx, claimRecord, c)
	})
}

// check returns errClaimed unless the database is that of the run.
func (c claim) check(r storage.Reader) error {
	raw, err := r.Get(claimRecord)
	if errors.Is(err, storage.ErrNotFound) {
		return errClaimed
	} else if err != nil {
		return err
	}
	var now claim
	if err := storage.DecodeJSON(claimRecord, raw, &now); err != nil || now.Run != c.Run {
		return errClaimed
	}
	return nil
}

// explain returns what to say about an error of the run. Whatever has gone wrong, the reason is another run if that has
// the database. A database that is a store may be that of this run, whose last commit has not been answered.
func (c claim) explain(ctx context.Context, target storage.Store, place string, err error) error {
	lost := errors.Is(err, errClaimed)
	if !lost && !errors.Is(err, openstore.ErrIdentified) {
		lost = errors.Is(target.View(context.WithoutCancel(ctx), func(r storage.Reader) error {
			return cmp.Or(openstore.Unidentified(r), c.check(r))
		}), errClaimed)
	}
	if !lost {
		return err
	}
	return terminal.WithHint(fmt.Errorf("%s: %w", place, errClaimed), "only one can restore into a database at a time; wait for its end")
}
