// Package durable changes names and contents of files so that a crash leaves the old state or the new one, never
// something in between.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Replace replaces the file at path, or makes it, in one step and with mode 0600. A kill can leave a stray FILE.new-…
// beside it, which nothing reads.
func Replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
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
	return SyncDir(filepath.Dir(path))
}

// Link gives the file from the name to as well. Unlike a rename it never replaces a file: its error matches
// fs.ErrExist then. A file system without hard links gets a rename, and only a lock of the caller's keeps another
// process from making the file at the same instant. The caller syncs the directory.
func Link(from, to string) error { return link(os.Link, from, to) }

func link(system func(from, to string) error, from, to string) error {
	err := system(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}

// SyncDir makes the names in a directory durable. A directory that this process may not list cannot be synced: its
// error matches fs.ErrPermission.
func SyncDir(path string) error {
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Free returns how many bytes the file system of a path has left for users other than root.
func Free(path string) (int64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(path, &disk); err != nil {
		return 0, err
	}
	return int64(disk.Bavail) * disk.Bsize, nil
}

// WithoutPath returns the reason of an error of the operating system, for a message that names the file itself.
func WithoutPath(err error) error {
	if e := new(fs.PathError); errors.As(err, &e) {
		return e.Err
	}
	if e := new(os.LinkError); errors.As(err, &e) {
		return e.Err
	}
	return err
}
