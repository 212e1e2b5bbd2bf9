// Package datadir checks and locks the data directory of a server, and makes it private.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/namedfile"
)

// A Dir is a data directory that only this process works on.
//
// The lock is a POSIX lock: the kernel knows its holder and tells the next process. A file
// with a process id would go stale after a kill, and writing one would change the directory
// of a start that fails. A POSIX lock ends when any descriptor of the file is closed, so
// only this type opens the file.
type Dir struct {
	path        string
	lock        *os.File
	createdDir  bool // Undo removes what was created
	createdLock bool
	oldMode     fs.FileMode // before Protect changed it; 0 if it did not
}

// Open locks the directory. With create it creates the directory if it is missing, but not
// its parent. The error is an *InUseError if another process has the lock.
func Open(path string, create bool) (*Dir, error) {
	d := &Dir{path: path}
	if create {
		err := os.Mkdir(path, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToMake}, fmt.Errorf("cannot create the data directory: %w", err))
		}
		d.createdDir = err == nil
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("data directory %s: not a directory", path)
	}
	if err := d.acquire(); err != nil {
		d.Undo()
		return nil, err
	}
	return d, nil
}

// acquire locks DIR/lock. Another start that fails may remove the file between our open
// and our lock. The lock of a removed file protects nothing, so acquire compares the file
// with the one at that path now and tries again if they differ.
func (d *Dir) acquire() error {
	name := filepath.Join(d.path, "lock")
	for range 10 {
		_, err := os.Lstat(name)
		missing := errors.Is(err, fs.ErrNotExist)
		f, err := openLock(name)
		if err != nil {
			return err
		}
		if err := lockFile(f, d.path); err != nil {
			f.Close()
			return err
		}
		opened, err := f.Stat()
		if err == nil {
			if now, err := os.Lstat(name); err == nil && os.SameFile(opened, now) {
				d.lock, d.createdLock = f, missing
				if missing {
					return OwnLike(f.Name(), d.path)
				}
				return nil
			}
		}
		f.Close()
	}
	return fmt.Errorf("%s cannot be locked: other servers start and stop on this directory; try again", name)
}

// OwnLike gives a file that root made in a directory to the owner of the directory, who runs the server:
// otherwise its next start could not open it.
func OwnLike(path, dir string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	uid, gid := namedfile.Owner(info)
	return os.Lchown(path, uid, gid)
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
		return &InUseError{dir, int(holder.Pid)}
	}
	return &InUseError{Dir: dir} // the holder is in another pid namespace, or has just ended
}

// An InUseError says that another process works on the directory.
type InUseError struct {
	Dir string
	PID int // 0 if unknown
}

// Error names the directory and, if known, the process.
func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("%s is in use by process %d", e.Dir, e.PID)
}

// Release unlocks the directory and leaves its files.
func (d *Dir) Release() { d.lock.Close() }

// Undo unlocks the directory and removes what Open created: the lock file, and the
// directory if it is still empty. A directory that was there gets its mode back.
func (d *Dir) Undo() {
	if d.lock != nil {
		if d.createdLock {
			os.Remove(d.lock.Name())
		}
		d.lock.Close()
	}
	if d.createdDir {
		os.Remove(d.path) // the system refuses unless it is empty
	} else if d.oldMode != 0 {
		os.Chmod(d.path, d.oldMode)
	}
}
