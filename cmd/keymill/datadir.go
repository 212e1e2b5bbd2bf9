package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A dataDir is a data directory that this process alone works on.
//
// The lock is a POSIX one: the kernel names its holder to the next comer, so no process id
// has to be written down, goes stale after a kill, or changes the directory of a start that
// fails. Such a lock ends when any descriptor of the file is closed; only this type opens it.
type dataDir struct {
	path           string
	lock           *os.File
	madeDir, madeL bool // what abandon takes away again
}

// openDataDir makes the directory if it is absent, and locks it.
func openDataDir(path string) (*dataDir, error) {
	d := &dataDir{path: path}
	err := os.Mkdir(path, 0o700)
	switch {
	case err == nil:
		d.madeDir = true
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("data directory %s: not a directory", path)
	}
	if err := d.acquire(); err != nil {
		d.abandon()
		return nil, err
	}
	return d, nil
}

// acquire locks DIR/lock. A start that fails may just have removed the file that was
// opened here; then the lock is worth nothing, and the next try makes a new file.
func (d *dataDir) acquire() error {
	name := filepath.Join(d.path, "lock")
	for range 10 {
		_, err := os.Stat(name)
		absent := errors.Is(err, fs.ErrNotExist)
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("cannot write in the data directory: %w", err)
		}
		if err := lockFile(f, d.path); err != nil {
			f.Close()
			return err
		}
		opened, err := f.Stat()
		if err == nil {
			if now, err := os.Stat(name); err == nil && os.SameFile(opened, now) {
				d.lock, d.madeL = f, absent
				return nil
			}
		}
		f.Close()
	}
	return fmt.Errorf("%s: other processes keep starting here", name)
}

func lockFile(f *os.File, dir string) error {
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &whole)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("cannot lock %s: %w", f.Name(), err)
	}
	holder := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &holder); err == nil && holder.Pid > 0 {
		return &inUseError{dir, int(holder.Pid)}
	}
	return &inUseError{dir: dir} // its holder lives in another pid namespace, or just left
}

// inUseError: another process works on the directory.
type inUseError struct {
	dir string
	pid int // 0 if unknown
}

func (e *inUseError) Error() string {
	if e.pid == 0 {
		return fmt.Sprintf("%s is in use by another process", e.dir)
	}
	return fmt.Sprintf("%s is in use by process %d", e.dir, e.pid)
}

// release gives the directory back and leaves its files.
func (d *dataDir) release() {
	d.lock.Close()
}

// abandon leaves the directory as openDataDir found it, unless something was written since.
func (d *dataDir) abandon() {
	if d.lock != nil {
		if d.madeL {
			os.Remove(d.lock.Name())
		}
		d.lock.Close()
	}
	if d.madeDir {
		os.Remove(d.path) // refused by the system unless it is empty
	}
}

// tighten takes the directory away from other users. It comes late in a start, as one
// that fails changes nothing.
func (d *dataDir) tighten() error {
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return os.Chmod(d.path, 0o700)
}

// writeSecretFile puts content at path, durably and whole: a crash leaves the old file or
// the new one.
func writeSecretFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already once it was renamed
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
