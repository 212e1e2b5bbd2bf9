package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"keymill/storage"
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
		if err := build(path, func() (storage.Write, error) { return storage.Write{}, io.EOF }); err != nil && !errors.Is(err, fs.ErrExist) {
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

// openExisting opens a file that exists. The file is locked and checked before bbolt reads it.
func openExisting(path string, o *bbolt.Options) (_ *bbolt.DB, txid int, err error) {
	var f *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			// After a panic bbolt leaves the file mapped, which would keep its lock.
			syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
			f.Close()
			err = damaged("%v", p)
		}
	}()
	o.OpenFile = func(path string, flag int, mode os.FileMode) (*os.File, error) {
		// A FIFO would block here, and lockFile refuses it. A link is followed only to read: what
		// another user put at the name must not be written.
		flag = flag&^os.O_CREATE | syscall.O_NONBLOCK
		if !o.ReadOnly {
			flag |= syscall.O_NOFOLLOW
		}
		if f, err = os.OpenFile(path, flag, mode); errors.Is(err, syscall.ELOOP) {
			return nil, errors.New("it is a symbolic link; remove it")
		} else if err != nil {
			return nil, err
		}
		err := lockFile(f, !o.ReadOnly, o.Timeout)
		if err == nil {
			err = checkFile(f)
		}
		if err != nil {
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

// lockFile takes the lock that bbolt takes later, because the check of the file must come before
// bbolt reads it, and another process may change the pages until the lock is taken. To take a lock
// again that this process already has is no error.
func lockFile(f *os.File, exclusive bool, timeout time.Duration) error {
	if info, err := f.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	how := syscall.LOCK_SH | syscall.LOCK_NB
	if exclusive {
		how = syscall.LOCK_EX | syscall.LOCK_NB
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return nil
		case err == syscall.EINTR:
		case err != syscall.EWOULDBLOCK:
			return fmt.Errorf("lock: %w", err)
		case time.Since(begun) > timeout:
			return bolterrors.ErrTimeout
		}
	}
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
	if _, err := treeOf(tx); err != nil {
		return 0, err
	}
	return tx.ID(), nil
}

// withoutPath removes the path from an error of the operating system: the caller's
// message already names it.
func withoutPath(err error) error {
	if e := new(fs.PathError); errors.As(err, &e) {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}
