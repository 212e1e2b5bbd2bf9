package postgres

import (
	"context"
	"fmt"
	"io"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// Open returns the store in the database of c, after the checks of OpenEngine. Its errors are those of
// OpenEngine.
func Open(ctx context.Context, c Config) (*optimistic.Store, error) {
	e, err := OpenEngine(ctx, c)
	if err != nil {
		return nil, err
	}
	return e.NewStore(c.Options), nil
}

// NewStore returns the store of the Engine. Its calls wait a little longer than the Engine, so that the Engine, which names the
// database, says first that it is away.
func (e *Engine) NewStore(o optimistic.Options) *optimistic.Store {
	o.Deadline = e.deadline + e.deadline/10
	return optimistic.New(e, o)
}

// Bounds of one transaction of Load, so that it is written well within the time that a request may take.
const (
	loadWrites = 2_000
	loadBytes  = 4 << 20
)

// Load makes the writes that next returns, until io.EOF. Their keys ascend, and keys and values keep to the limits
// of package storage. Load compares nothing, so it is for a database that no node uses. Each of its transactions calls
// guard first, which may be nil. An error of it is returned unchanged, and nothing more is written: a Load that was paused
// for an hour must not write over what others have made of the database.
//
// Load makes many writes in one transaction. After each transaction it calls written with the number of its
// writes and their last key; written may be nil. If Load fails, what was written before stays, and the same
// writes can be made again. An error of next is returned unchanged, after the writes that came before it.
func (e *Engine) Load(ctx context.Context, guard func(storage.Reader) error, next func() (storage.Write, error), written func(writes int, last string)) error {
	last := ""
	for {
		batch, end := storage.NextWrites(next, loadWrites, loadBytes)
		for _, w := range batch {
			if w.Key <= last {
				return fmt.Errorf("%s: key %q follows %q, so the records to load are not in key order", e.target, w.Key, last)
			}
			last = w.Key
		}
		if err := e.load(ctx, guard, batch); err != nil {
			return err
		}
		if written != nil && len(batch) > 0 {
			written(len(batch), last)
		}
		switch end {
		case nil:
		case io.EOF:
			return nil
		default:
			return end
		}
	}
}

func (e *Engine) load(ctx context.Context, guard func(storage.Reader) error, batch []storage.Write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := e.Exclusive(ctx, 0, func(r storage.Reader) ([]storage.Write, error) {
		if guard != nil {
			if err := guard(r); err != nil {
				return nil, err
			}
		}
		return batch, nil
	})
	return err
}
