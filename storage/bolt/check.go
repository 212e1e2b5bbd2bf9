package bolt

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// maxFindings bounds what Check reports of a file that is damaged all over.
const maxFindings = 10

// Check reads every record and then lets bbolt check its pages. Updates wait
// meanwhile, so it is for a store that nobody else uses.
func (b *Store) Check(ctx context.Context) error {
	if err := b.refusal(); err != nil {
		return err
	}
	// bbolt's own check is safe beside a writer only in the writer's place.
	tx, err := b.db.Begin(true)
	if err != nil {
		return storage.ErrClosed
	}
	defer tx.Rollback()
	// Walking first: bbolt checks in a goroutine of its own, where a page number that
	// leads out of the file would be the end of the process.
	if err := walk(ctx, tx); err != nil {
		return err
	}
	return findings(ctx, tx)
}

// walk touches every record through the tree.
func walk(ctx context.Context, tx *bbolt.Tx) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("store is damaged: %v", p)
		}
	}()
	c := tx.Bucket([]byte(bucketName)).Cursor()
	last := ""
	for k, v := c.First(); k != nil; k, v = c.Next() {
		key := string(k)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := storage.CheckKey(key); err != nil {
			return fmt.Errorf("store is damaged: %w", err)
		}
		if key <= last || len(v) > storage.MaxValueBytes {
			return fmt.Errorf("store is damaged at the record %q", key)
		}
		last = key
	}
	return nil
}

// findings drains bbolt's check to its end, which is what lets its goroutine go.
func findings(ctx context.Context, tx *bbolt.Tx) error {
	var found []error
	for err := range tx.Check() {
		if len(found) < maxFindings {
			found = append(found, fmt.Errorf("store is damaged: %w", err))
		}
	}
	if len(found) > 0 {
		return errors.Join(found...)
	}
	return ctx.Err()
}
