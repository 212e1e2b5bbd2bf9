package bolt

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"keymill/storage"
	"keymill/storage/durable"
)

// compactSuffix names the file that Compact writes. It begins as the files of Open do, so that whatever lists
// the files of a store knows it.
const compactSuffix = ".new-compact"

// A Compaction is what Compact has done.
type Compaction struct {
	Records       int
	Before, After int64 // size of the file; equal if the old file was kept, because a new one is not smaller
}

// Compact replaces the file of a store that no process has open by one without free pages. The caller has
// checked the pages, see CheckFile. report gets the share of the work that is done, in percent.
//
// The new file is FILE.new-compact until it is whole, synced and compared with the old one. It has the owner and
// the mode of the old one. A kill at any moment leaves the old file or the new one under the name of the store, and
// before the rename perhaps FILE.new-compact, which nothing reads and the next Compact replaces. An error or the end
// of ctx leaves the old file and no other one.
//
// bbolt counts the transactions of the new file from the beginning. Only a process that has the file open
// compares them: the mark of a store (package sealed) is about its records.
func Compact(ctx context.Context, path string, report func(percent int)) (Compaction, error) {
	c := &compaction{ctx: ctx, path: path, report: report}
	err := contain(c.run)
	if err != nil {
		err = fmt.Errorf("compact store %s: %w", path, withoutPath(err))
	}
	return c.done, err
}

type compaction struct {
	ctx    context.Context
	path   string
	report func(percent int)
	done   Compaction

	read, total int // bytes of pages: those that were read, and those that will be
}

func (c *compaction) run() error {
	info, err := os.Lstat(c.path)
	if err != nil {
		return err
	}
	old, _, err := openExisting(c.path, fileOptions()) // the lock keeps every other process out
	if err != nil {
		return inUse(err)
	}
	defer old.Close()
	tx, err := old.Begin(false)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	from, err := c.source(tx, filepath.Dir(c.path))
	if err != nil {
		return err
	}
	c.done.Before, c.done.After = info.Size(), info.Size()
	name := c.path + compactSuffix
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // what a kill has left cannot be removed
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(name) // fails after the rename, as it should
	size, err := c.copyTo(f, from, info)
	if err != nil || size >= info.Size() {
		return err
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if err := os.Rename(name, c.path); err != nil {
		return err
	}
	c.done.After = size
	return durable.SyncDir(filepath.Dir(c.path))
}

func inUse(err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return ErrInUse
	}
	return err
}

// source returns the tree of the old file, and an error if there is no space for its copy or if the file has buckets
// that would not be copied.
func (c *compaction) source(tx *bbolt.Tx, dir string) (tree, error) {
	from, err := treeOf(tx)
	if err != nil {
		return tree{}, err
	}
	names, err := otherBuckets(from.pages, rootOf(tx))
	if err != nil {
		return tree{}, err
	}
	if len(names) > 0 {
		return tree{}, fmt.Errorf("the file has buckets that Keymill does not write, and they would be lost: %s", strings.Join(names, ", "))
	}
	free, _, err := FreeBytes(c.path)
	if err != nil {
		return tree{}, err
	}
	used := len(from.bytes) - int(free)
	c.total = 2 * used // the copy is read again
	return from, checkSpace(dir, int64(used))
}

// A SpaceError means that the new file of Compact does not fit on the disk.
type SpaceError struct {
	Dir        string
	Need, Free int64 // bytes
}

// Error says how much is missing.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("the new file needs %d bytes in %s, and %d are free", e.Need, e.Dir, e.Free)
}

// checkSpace returns an error unless there is space for a copy of used bytes. Full pages split while the copy is
// written, to pageFill of a page.
func checkSpace(dir string, used int64) error {
	need := used + used/8 + 1<<20
	left, err := durable.Free(dir)
	if err == nil && left < need {
		err = &SpaceError{dir, need, left}
	}
	return err
}

// copyTo writes all records to f, which it closes, and returns its size once it is durable and was compared.
func (c *compaction) copyTo(f *os.File, from tree, like fs.FileInfo) (size int64, err error) {
	o := fileOptions()
	o.NoSync, o.NoGrowSync = true, true
	o.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return f, nil } // and no other that got its name
	db, err := bbolt.Open(f.Name(), 0o600, o)
	if err != nil {
		f.Close()
		return 0, err
	}
	defer db.Close()
	sum := sha256.New()
	if c.done.Records, err = c.copyRecords(db, from, sum); err != nil {
		return 0, err
	}
	if err := asFile(f, like); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if err := checkFile(f); err != nil {
		return 0, err
	}
	if err := c.compare(db, sum.Sum(nil)); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), db.Close()
}

// asFile gives f the owner and the mode of another file.
func asFile(f *os.File, like fs.FileInfo) error {
	want, now := like.Sys().(*syscall.Stat_t), syscall.Stat_t{}
	if err := syscall.Fstat(int(f.Fd()), &now); err != nil {
		return err
	}
	if now.Uid != want.Uid || now.Gid != want.Gid {
		if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
			return fmt.Errorf("the new file cannot be given to the owner of the old one, uid %d and gid %d; run it as root: %w", want.Uid, want.Gid, withoutPath(err))
		}
	}
	return f.Chmod(like.Mode().Perm())
}

// copyRecords puts all records into db and their digest into sum.
func (c *compaction) copyRecords(db *bbolt.DB, from tree, sum hash.Hash) (records int, err error) {
	var l leaf
	start, i := []byte{}, 0
	next := func() (storage.Write, error) {
		for i == l.count {
			if start == nil {
				return storage.Write{}, io.EOF
			}
			if l, err = c.next(from, start, sum); err != nil {
				return storage.Write{}, err
			}
			start, i = l.next, 0
		}
		i++
		records++
		return storage.Write{Key: string(l.key(i - 1)), Value: l.value(i - 1)}, nil
	}
	for done := false; !done; {
		if err := db.Update(func(tx *bbolt.Tx) (err error) { done, err = fill(tx, next); return err }); err != nil {
			return 0, err
		}
	}
	return records, nil
}

// next reads the leaf of a key, adds its records to sum and reports how far the work is.
func (c *compaction) next(t tree, key []byte, sum hash.Hash) (leaf, error) {
	if err := c.ctx.Err(); err != nil {
		return leaf{}, err
	}
	l, err := t.verify(string(key), false)
	if err != nil {
		return leaf{}, err
	}
	for i := range l.count {
		key, value := l.key(i), l.value(i)
		var sizes [16]byte
		binary.BigEndian.PutUint64(sizes[:8], uint64(len(key)))
		binary.BigEndian.PutUint64(sizes[8:], uint64(len(value)))
		sum.Write(sizes[:])
		sum.Write(key)
		sum.Write(value)
	}
	c.read += len(l.page)
	c.report(min(99, 100*c.read/max(1, c.total)))
	return l, nil
}

// compare reads the new file, and returns an error unless its records are those of the old one.
func (c *compaction) compare(db *bbolt.DB, want []byte) error {
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	to, err := treeOf(tx)
	if err != nil {
		return err
	}
	records, sum := 0, sha256.New()
	for start := []byte{}; start != nil; {
		l, err := c.next(to, start, sum)
		if err != nil {
			return err
		}
		records += l.count
		start = l.next
	}
	if records != c.done.Records || string(sum.Sum(nil)) != string(want) {
		return damaged("the new file has %d records and the store %d, or one differs; the store was left as it is", records, c.done.Records)
	}
	return nil
}

// FreeBytes returns how many bytes of the file at path nothing uses, and its size. It reads two pages, also while
// a server writes the file: then the numbers are of about this moment.
func FreeBytes(path string) (free, size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	m, err := newestMeta(f)
	if err != nil {
		return 0, 0, err
	}
	head := make([]byte, pageHeaderBytes+8)
	if _, err := f.ReadAt(head, int64(m.freelist*m.pageSize)); err != nil {
		return 0, 0, err
	}
	pages := uint64(binary.NativeEndian.Uint16(head[10:]))
	if pages == 0xFFFF {
		pages = binary.NativeEndian.Uint64(head[pageHeaderBytes:])
	}
	return int64(min(pages, m.pages) * m.pageSize), info.Size(), nil
}
