package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/sealed"
)

// A store in a database is filled in this order: the claim of this run, all records without the identity, a comparison, and
// then the identity instead of the claim, in one transaction. Without an identity no server starts on it. So after a crash there
// is no store, and the next restore removes what is there.

const metaRecord, keyringRecord = "meta", "keyring"

// openTarget opens the database, and refuses one that holds a store or that servers use.
func (b *builder) openTarget(ctx context.Context) (*openstore.Store, error) {
	target, err := openstore.Open(ctx, b.Config, openstore.Options{})
	if err != nil {
		return nil, err
	}
	if err := b.checkTarget(ctx, target); err != nil {
		return nil, errors.Join(err, target.Close())
	}
	return target, nil
}

func (b *builder) checkTarget(ctx context.Context, target storage.Store) error {
	place := b.Config.StorePlace()
	live, err := openstore.Live(ctx, sealed.Unverified(target))
	if err != nil {
		return err
	}
	var names []string
	for _, n := range live {
		names = append(names, n.ID+" on "+terminal.Printable(n.Host))
	}
	if len(names) > 0 {
		return terminal.WithHint(fmt.Errorf("servers use %s now: %s", place, strings.Join(names, ", ")), "stop them first, and restore into an empty database")
	}
	var meta storage.Meta
	err = target.View(ctx, func(r storage.Reader) (err error) {
		meta, err = storage.ReadMeta(r)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	id := meta.DatabaseID
	if err != nil {
		id = "unknown: " + terminal.Plain(err)
	}
	return terminal.WithHint(fmt.Errorf("%s already holds a store (database id %s), and restore replaces none in a database", place, terminal.OneLine(id)),
		"create an empty database and name it with the setting store; the old one stays as it is")
}

// fill writes the new store to the database, except what makes it one. It returns that.
func (b *builder) fill(ctx context.Context, target *openstore.Store, c claim) (identity []storage.Write, err error) {
	if err := empty(ctx, target, c); err != nil {
		return nil, err
	}
	file, err := bolt.OpenReadOnly(b.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	next, stop := iter.Pull2(storage.Records(ctx, file))
	defer stop()
	err = target.Load(ctx, c.check, func() (storage.Write, error) {
		for {
			e, err, more := next()
			switch {
			case err != nil:
				return storage.Write{}, err
			case !more:
				return storage.Write{}, io.EOF
			case e.Key != metaRecord && e.Key != keyringRecord:
				return storage.Write{Key: e.Key, Value: e.Value}, nil
			}
			identity = append(identity, storage.Write{Key: e.Key, Value: e.Value})
		}
	})
	if err != nil {
		return nil, err
	}
	return identity, compare(ctx, file, target)
}

// identify makes a store of the database, unless another program has begun to do so in the meantime.
func identify(ctx context.Context, target storage.Store, c claim, identity []storage.Write) error {
	return target.Update(ctx, func(tx storage.Tx) error {
		if err := openstore.Unidentified(tx); err != nil {
			return err
		}
		if err := c.check(tx); err != nil {
			return err
		}
		for _, w := range identity {
			if err := tx.Put(w.Key, w.Value); err != nil {
				return err
			}
		}
		return tx.Delete(claimRecord)
	})
}

// empty removes what an interrupted restore has left.
func empty(ctx context.Context, target *openstore.Store, c claim) error {
	next, stop := iter.Pull2(others(storage.Records(ctx, target)))
	defer stop()
	return target.Load(ctx, c.check, func() (storage.Write, error) {
		e, err, more := next()
		if err == nil && !more {
			err = io.EOF
		}
		return storage.Write{Key: e.Key, Deleted: true}, err
	})
}

// others returns the records without the claim.
func others(records iter.Seq2[storage.Entry, error]) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range records {
			if (err != nil || e.Key != claimRecord) && !yield(e, err) {
				return
			}
		}
	}
}

// compare reads back what was written.
func compare(ctx context.Context, from, to storage.Store) error {
	next, stop := iter.Pull2(others(storage.Records(ctx, to)))
	defer stop()
	for want, err := range storage.Records(ctx, from) {
		if err != nil {
			return err
		}
		if want.Key == metaRecord || want.Key == keyringRecord {
			continue
		}
		got, err, more := next()
		switch {
		case err != nil:
			return err
		case !more || got.Key != want.Key || string(got.Value) != string(want.Value):
			return fmt.Errorf("the database does not hold what was written to it: it differs at %s", storage.KeyText(want.Key))
		}
	}
	if got, _, more := next(); more {
		return fmt.Errorf("another program has written to the database: %s", storage.KeyText(got.Key))
	}
	return nil
}
