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
	// lockTimeout forgives a predecessor that is just going, no more.
	lockTimeout = 500 * time.Millisecond

	// mapBytes is reserved address space, not memory. A file that outgrows its
	// mapping has to wait for every View before it can be mapped anew.
	mapBytes   = 1 << 30
	mapBytes32 = 64 << 20
)

// openOrCreate returns the open file and its newest transaction, synced.
func openOrCreate(path string) (*bbolt.DB, int, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, 0, fmt.Errorf("create store %s: %w", path, cause(err))
		}
	}
	db, txid, err := open(path)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, 0, fmt.Errorf("store %s is in use by another process", path)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open store %s: %w", path, cause(err))
	}
	return db, txid, nil
}

// create makes an empty store beside path and then gives it its name, so that a
// file under that name is always whole: a crash can leave a stray file.new-…, but
// never an empty store, and an empty file can be told from a new one.
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
	// A link never replaces what another process made meanwhile. Some file systems
	// have none; there the caller's own lock must do.
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
		NoStatistics:    true, // they cost a lock per View
	}
	if strconv.IntSize < 64 {
		o.InitialMmapSize = mapBytes32
	}
	return o
}

// open opens a file that is there. bbolt answers a damaged one with a panic, or
// with a fault of the memory that it mapped.
func open(path string) (_ *bbolt.DB, txid int, err error) {
	var f *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			// bbolt's lock would stay: the mapping that it leaves behind holds the file.
			syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
			f.Close()
			err = fmt.Errorf("file is damaged: %v", p)
		}
	}()
	o := fileOptions()
	o.OpenFile = func(path string, flag int, mode os.FileMode) (*os.File, error) {
		if f, err = os.OpenFile(path, flag&^os.O_CREATE, mode); err != nil {
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
	if txid, err = newest(db); err != nil {
		db.Close()
		return nil, 0, err
	}
	return db, txid, nil
}

// newest returns the id of the transaction that readers see, and makes sure that
// it is on disk: a process killed between its write and its sync leaves one that
// only the page cache knows.
func newest(db *bbolt.DB) (int, error) {
	if err := db.Sync(); err != nil {
		return 0, fmt.Errorf("sync: %w", err)
	}
	tx, err := db.Begin(false)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if tx.Bucket([]byte(bucketName)) == nil {
		return 0, errors.New("file belongs to another program")
	}
	return tx.ID(), nil
}

// A fileMeta is one of bbolt's two meta pages, which lie at the start of the file
// and are written in turn: a page header of 16 bytes, then in the byte order of the
// machine magic, version, page size and flags (4 bytes each), root page, its
// sequence, freelist page, number of pages, transaction id, and the FNV-1a sum of
// all these (8 bytes each).
type fileMeta struct {
	pageSize, root, freelist, pages, txid uint64
}

const (
	pageHeaderBytes = 16
	metaBytes       = 64
	boltMagic       = 0xED0CDAED
	boltVersion     = 2
)

// checkFile looks at what bbolt takes on trust. It maps the file, and reading a
// mapping past the end of a file that was cut off kills the process.
func checkFile(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case info.Size() == 0:
		return errors.New("file is empty, and a store never is")
	}
	m, err := newestMeta(f)
	if err != nil {
		return err
	}
	// The size is read after the page, as a file grows before its pages count.
	if info, err = f.Stat(); err != nil {
		return err
	}
	return m.check(info.Size())
}

// check tells whether a file of size bytes can hold what m promises.
func (m fileMeta) check(size int64) error {
	if m.pages > math.MaxInt64/m.pageSize || size < int64(m.pages*m.pageSize) {
		return fmt.Errorf("file is cut off: %d bytes of at least %d pages of %d", size, m.pages, m.pageSize)
	}
	// We always write a free list, so one without comes from elsewhere, and bbolt
	// would write to it.
	if m.root < 2 || m.root >= m.pages || m.freelist < 2 || m.freelist >= m.pages {
		return errors.New("file is damaged, or another program's")
	}
	return nil
}

// newestMeta returns the meta page that bbolt will go by.
func newestMeta(f io.ReaderAt) (fileMeta, error) {
	first, ok := readMeta(f, 0)
	if ok {
		if second, ok := readMeta(f, int64(first.pageSize)); ok && second.txid > first.txid {
			return second, nil
		}
		return first, nil
	}
	// The page size is known only from a page, so try them all, as bbolt does.
	for size := int64(1 << 10); size <= 1<<24; size <<= 1 {
		if second, ok := readMeta(f, size); ok {
			return second, nil
		}
	}
	return fileMeta{}, errors.New("file is not a store")
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

// cause drops the path that the operating system's errors repeat.
func cause(err error) error {
	if e := new(fs.PathError); errors.As(err, &e) {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}
