package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// lockTimeout is enough for a previous process that is about to exit.
	lockTimeout = 500 * time.Millisecond

	// mapBytes is reserved address space, not memory. A file that outgrows its mapping
	// must be mapped again, and for that bbolt waits until every View has ended.
	mapBytes   = 1 << 30
	mapBytes32 = 64 << 20
)

// openOrCreate returns the open file and its newest transaction, synced.
func openOrCreate(path string) (*bbolt.DB, int, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, 0, fmt.Errorf("create store %s: %w", path, withoutPath(err))
		}
	}
	return open(path, fileOptions())
}

// open opens a file that exists, and names it in the error.
func open(path string, o *bbolt.Options) (*bbolt.DB, int, error) {
	db, txid, err := openExisting(path, o)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, 0, fmt.Errorf("store %s %w", path, ErrInUse)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open store %s: %w", path, withoutPath(err))
	}
	return db, txid, nil
}

// ErrInUse means that another process has the file.
var ErrInUse = errors.New("is in use by another process")

// create builds an empty store beside path and then links it to path, so a file with
// that name is always complete. A crash can leave a stray FILE.new-…, which is harmless,
// but never an empty file: an empty file is damage, and openExisting refuses it.
func create(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	name := f.Name()
	f.Close()
	defer os.Remove(name)

	db, err := bbolt.Open(name, 0o600, fileOptions())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte(bucketName))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// os.Link fails if another process has created the store in the meantime, and never
	// replaces it. On a file system without hard links only the lock on the data directory
	// prevents that.
	if err := os.Link(name, path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(name, path); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func fileOptions() *bbolt.Options {
	o := &bbolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapBytes,
		NoStatistics:    true, // statistics cost a lock per View
	}
	if strconv.IntSize < 64 {
		o.InitialMmapSize = mapBytes32
	}
	return o
}

// openExisting opens a file that exists. On a damaged file bbolt panics, or reads
// outside of its mapping; both become errors here.
func openExisting(path string, o *bbolt.Options) (_ *bbolt.DB, txid int, err error) {
	var f *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			// After a panic bbolt leaves the file mapped, which would keep its lock.
			syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
			f.Close()
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	o.OpenFile = func(path string, flag int, mode os.FileMode) (*os.File, error) {
		// A FIFO would block here, and checkFile refuses it.
		if f, err = os.OpenFile(path, flag&^os.O_CREATE|syscall.O_NONBLOCK, mode); err != nil {
			return nil, err
		}
		if err := checkFile(f); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return nil, 0, err
	}
	if txid, err = syncNewest(db); err != nil {
		db.Close()
		return nil, 0, err
	}
	return db, txid, nil
}

// syncNewest returns the id of the transaction that readers see, after making sure that
// it is on disk: a process that was killed between commit and sync leaves a transaction
// that only the page cache holds.
func syncNewest(db *bbolt.DB) (int, error) {
	if !db.IsReadOnly() {
		if err := db.Sync(); err != nil {
			return 0, fmt.Errorf("sync: %w", err)
		}
	}
	tx, err := db.Begin(false)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if tx.Bucket([]byte(bucketName)) == nil {
		return 0, errors.New("the file is a bbolt database of another program; choose another data directory")
	}
	return tx.ID(), nil
}

// A fileMeta is one of bbolt's two meta pages. They are the first two pages of the file,
// and commits write them in turn. After a page header of 16 bytes a meta page holds, in
// the byte order of the machine:
//
//	magic, version, page size, flags                    4 bytes each
//	root page, sequence of the root, free list page,
//	number of pages, transaction id, FNV-1a checksum    8 bytes each
type fileMeta struct {
	pageSize, root, freelist, pages, txid uint64
}

const (
	pageHeaderBytes = 16
	metaBytes       = 64
	boltMagic       = 0xED0CDAED
	boltVersion     = 2
)

// checkFile checks what bbolt does not. bbolt maps the file into memory, and a read of
// the mapping past the end of a truncated file crashes the process.
func checkFile(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Size() == 0:
		return errors.New("the file is empty, so it is damaged: restore a backup, or remove the file and create a new store with keymill init")
	}
	m, err := newestMeta(f)
	if err != nil {
		return err
	}
	// The size is read after the meta page. A file grows before a meta page refers to
	// its new pages, so the other order could refuse a store that is in use.
	if info, err = f.Stat(); err != nil {
		return err
	}
	return m.check(info.Size())
}

// check returns an error if a file of size bytes cannot hold the pages that m refers to.
func (m fileMeta) check(size int64) error {
	if m.pages > math.MaxInt64/m.pageSize || size < int64(m.pages*m.pageSize) {
		return fmt.Errorf("the file is truncated: %d bytes, expected at least %d pages of %d bytes; restore a backup", size, m.pages, m.pageSize)
	}
	// This package always writes a free list. A file without one comes from another
	// program, and bbolt would change it when it opens it.
	if m.root < 2 || m.root >= m.pages || m.freelist < 2 || m.freelist >= m.pages {
		return errors.New("the file is damaged or belongs to another program")
	}
	return nil
}

// newestMeta returns the meta page that bbolt will use.
func newestMeta(f io.ReaderAt) (fileMeta, error) {
	first, ok := readMeta(f, 0)
	if ok {
		if second, ok := readMeta(f, int64(first.pageSize)); ok && second.txid > first.txid {
			return second, nil
		}
		return first, nil
	}
	// Only a meta page tells the page size. Without the first one, try every size for
	// the second one, as bbolt does.
	for size := int64(1 << 10); size <= 1<<24; size <<= 1 {
		if second, ok := readMeta(f, size); ok {
			return second, nil
		}
	}
	return fileMeta{}, errors.New("the file is not a Keymill store")
}

func readMeta(f io.ReaderAt, at int64) (fileMeta, bool) {
	page := make([]byte, pageHeaderBytes+metaBytes)
	if _, err := f.ReadAt(page, at); err != nil {
		return fileMeta{}, false
	}
	b, order := page[pageHeaderBytes:], binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:metaBytes-8])
	if order.Uint32(b) != boltMagic || order.Uint32(b[4:]) != boltVersion || order.Uint64(b[56:]) != sum.Sum64() {
		return fileMeta{}, false
	}
	m := fileMeta{
		pageSize: uint64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}
	return m, m.pageSize > 0
}

// withoutPath removes the path from an error of the operating system: the caller's
// message already names it.
func withoutPath(err error) error {
	if e := new(fs.PathError); errors.As(err, &e) {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}
