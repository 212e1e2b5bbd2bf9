package bolt

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// maxFindings bounds what Check reports of a file with damage everywhere.
const maxFindings = 10

// Check reads every record and then lets bbolt check its pages. Updates wait until it
// returns, so it is for a store without other users.
func (s *Store) Check(ctx context.Context) error {
	if err := s.unavailable(); err != nil {
		return err
	}
	// Tx.Check is safe beside a writer only from inside a write transaction.
	tx, err := s.db.Begin(!s.db.IsReadOnly())
	if err != nil {
		return storage.ErrClosed
	}
	defer tx.Rollback()
	// readAll comes first: bbolt checks in a goroutine of its own, where a page number
	// outside of the file would crash the process.
	if err := readAll(ctx, tx); err != nil {
		return err
	}
	return checkPages(ctx, tx)
}

// readAll reads every record through the tree and turns bbolt's panics into errors.
func readAll(ctx context.Context, tx *bbolt.Tx) (err error) {
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
		if key <= last || len(v) > storage.MaxValueBytes+storage.MaxTagBytes {
			return fmt.Errorf("store is damaged at the record %q", key)
		}
		last = key
	}
	return nil
}

// checkPages reads bbolt's findings to the end, even those that it does not keep:
// otherwise bbolt's goroutine would block forever.
func checkPages(ctx context.Context, tx *bbolt.Tx) error {
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
