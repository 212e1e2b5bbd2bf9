package bolt

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// A commit of bbolt goes through five steps, and only two of them can fail without
// leaving a doubt:
//
//	grow the file   truncate   clean: the new pages do not count yet
//	                fsync      unknown
//	data pages      pwrite     clean: nothing refers to them yet
//	                fdatasync  unknown: the kernel may have dropped them, and says so once
//	meta page       pwrite     clean if nothing of it can be seen, see visible
//	                fdatasync  unknown: readers see it already
//
// Even of the clean ones only a full disk is forgiven. An input or output error
// means a disk on which the next commit is not to be trusted either.

// isNoSpace tells whether a commit failed in a truncate or a write because the disk,
// the quota or the largest size of a file did not allow it.
func isNoSpace(err error) bool {
	var write *fs.PathError
	isWrite := errors.As(err, &write) && write.Op == "write"
	// bbolt keeps nothing but the text of a failed truncate. Should it ever change
	// the words, a full disk ends the process instead: the safe mistake.
	text, isTruncate := strings.CutPrefix(err.Error(), "file resize error: ")
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if isWrite && write.Err == full || isTruncate && strings.HasSuffix(text, full.Error()) {
			return true
		}
	}
	return false
}

// visible tells whether readers can see a transaction that is not synced: a meta
// page may be written as far as it matters, and the write still fail.
func (b *Store) visible() bool {
	tx, err := b.db.Begin(false)
	if err != nil {
		return true
	}
	defer tx.Rollback()
	return int64(tx.ID()) > b.synced.Load()
}
