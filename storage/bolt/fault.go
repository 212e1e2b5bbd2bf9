package bolt

import (
	"errors"
	"io/fs"
	"runtime/debug"
	"strings"
	"syscall"

	"keymill/storage"
)

// guard runs a step that reads pages. If it finds damage, the store has failed. fn is never the
// code of a caller: a panic there is no damage.
func (s *Store) guard(fn func() error) error {
	err := contain(fn)
	if err != nil && err != storage.ErrNotFound && errors.Is(err, storage.ErrBroken) {
		s.fail(err)
	}
	return err
}

// contain turns a panic of fn into an error that matches storage.ErrBroken: an assertion of
// bbolt, and a read of the mapping that the kernel cannot serve, because the disk has a fault or
// the file became shorter.
func contain(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // of this goroutine
	defer func() {
		if p := recover(); p != nil {
			err = damaged("%v", p)
		}
	}()
	return fn()
}

// A commit of bbolt has three steps of two system calls each. A failure is clean if it is
// certain that no reader can see the commit, now or after a restart:
//
//	grow the file   truncate   clean: the new pages are not in use yet
//	                fsync      unknown
//	data pages      pwrite     clean: nothing refers to them yet
//	                fdatasync  unknown: the kernel may have dropped them and reports it once
//	meta page       pwrite     clean if readers do not see it, see showsUnsynced
//	                fdatasync  unknown: readers already see it
//
// After a clean failure the store continues only if the disk is full. An input or output
// error means that the next commit cannot be trusted to this disk either, so its outcome
// counts as unknown.

// isNoSpace reports whether a commit failed in a truncate or a write because the disk,
// the quota or the maximum file size is exhausted.
func isNoSpace(err error) bool {
	var write *fs.PathError
	isWrite := errors.As(err, &write) && write.Op == "write"
	// bbolt keeps only the text of a failed truncate. If a later version changes the
	// text, a full disk stops the store instead, which loses nothing.
	text, isTruncate := strings.CutPrefix(err.Error(), "file resize error: ")
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if isWrite && write.Err == full || isTruncate && strings.HasSuffix(text, full.Error()) {
			return true
		}
	}
	return false
}

// showsUnsynced reports whether readers see a transaction that is not synced. A write of
// the meta page can fail after its important bytes are written, and then bbolt's readers
// use that page.
func (s *Store) showsUnsynced() bool {
	shows := true // unknown, so assume the worse case
	contain(func() error {
		tx, err := s.begin(false)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		shows = int64(tx.ID()) > s.synced.Load()
		return nil
	})
	return shows
}
