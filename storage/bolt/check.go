package bolt

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// maxFindings bounds what CheckFile reports of a file with damage everywhere.
const maxFindings = 10

// Check reads every record, and with it every page of the tree. It is for a caller that prints
// what it reads, and must find damage before it prints the first record.
func (s *Store) Check(ctx context.Context) error {
	tx, err := s.beginRead(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return s.guard(func() error { return readAll(ctx, tx, func(int) {}) })
}

// CheckFile checks the file of a store that no process writes: it reads every record, and then
// lets bbolt check its pages. bbolt does that in goroutines of its own, where a panic ends the
// process, so CheckFile is for a process that does nothing else. It calls report with the share
// of the pages that it has read, in percent.
func CheckFile(ctx context.Context, path string, report func(percent int)) error {
	s, err := OpenReadOnly(path)
	if err != nil {
		return err
	}
	defer s.Close()
	tx, err := s.beginRead(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// readAll comes first: a number of pages of 2^32 would make bbolt fill the memory.
	if err := s.guard(func() error { return readAll(ctx, tx, report) }); err != nil {
		return err
	}
	if !pagesOf(tx).metaHeaders() {
		return nil // CheckUnused says so
	}
	return checkPages(ctx, tx)
}

// readAll reads every record. What it holds is not its concern: a key or a value that no Store writes has
// no tag that fits, and package sealed names it.
func readAll(ctx context.Context, tx *bbolt.Tx, report func(percent int)) error {
	t, err := treeOf(tx)
	if err != nil {
		return err
	}
	done, last := 0, ""
	for start := []byte{}; start != nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		l, err := t.verify(string(start), false)
		if err != nil {
			return err
		}
		for i := range l.count {
			key := string(l.key(i))
			if key <= last {
				return damaged("the record %s is not where it belongs", storage.QuoteKey(key))
			}
			last = key
		}
		start = l.next
		done += len(l.page)
		report(min(100, 100*done/max(1, len(t.bytes))))
	}
	return nil
}

// checkPages reads bbolt's findings to the end, even those that it does not keep:
// otherwise bbolt's goroutine would block forever.
func checkPages(ctx context.Context, tx *bbolt.Tx) error {
	var found []error
	for err := range tx.Check() {
		if len(found) < maxFindings {
			found = append(found, fmt.Errorf("%w: %w", storage.ErrBroken, err))
		}
	}
	if len(found) > 0 {
		return errors.Join(found...)
	}
	return ctx.Err()
}
