package keyexport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/durable"
)

// tempName is the name of each file before it is whole. It is always the same and the directory is locked, so an
// export finds what an interrupted one has left.
const tempName = ".keymill-export.new"

// A directory is open and locked. Its methods use no name outside of it and follow no symbolic link.
type directory struct {
	path string
	root *os.Root
	self *os.File // holds the lock
}

// open opens the directory, and makes it if only its last element is missing.
func open(ctx context.Context, path string) (*directory, error) {
	path = filepath.Clean(path)
	named, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, err
		}
		named, err = os.Lstat(path)
	}
	switch {
	case err != nil:
		return nil, namedfile.DeniedAnywhere(err)
	case named.Mode().Type() == fs.ModeSymlink:
		return nil, terminal.WithHint(fmt.Errorf("--dir %s is a symbolic link", path), "name the directory that it points to")
	case !named.IsDir():
		return nil, terminal.WithHint(fmt.Errorf("--dir %s is not a directory", path), "name a directory that has nothing but these keys")
	}
	if err := checkOwner(path, named, os.Geteuid()); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToCreate}, err)
	}
	d := &directory{path: path, root: root}
	if d.self, err = root.Open("."); err == nil {
		err = d.lock(ctx)
	}
	if opened, statErr := root.Stat("."); err == nil && (statErr != nil || !os.SameFile(named, opened)) {
		err = fmt.Errorf("--dir %s was replaced while it was opened", path)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// create makes the directory. Its parent must exist: a mistyped path should not become a new tree. The programs that
// read the keys run as other users, so the umask does not count.
func create(path string) error {
	err := os.Mkdir(path, 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil // another export has made it in the meantime
	case errors.Is(err, fs.ErrNotExist):
		return terminal.WithHint(fmt.Errorf("--dir %s: the directory %s does not exist", path, filepath.Dir(path)), "create it first, or check the path")
	case err != nil:
		return full(path, namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToMake}, err))
	}
	if err := os.Chmod(path, 0o755); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// checkOwner refuses a directory in which a user other than uid and root can make files. A sticky bit does not help: the user could add a
// key, and a program that finds keys by their names would trust it.
func checkOwner(path string, info fs.FileInfo, uid int) error {
	if owner, _ := namedfile.Owner(info); owner != uid && uid != 0 {
		return terminal.WithHint(fmt.Errorf("--dir %s %s, and this process runs as uid %d", path, namedfile.Described(info), uid),
			"its owner could replace the keys; name a directory of uid %d, or run this as root", uid)
	}
	if others := info.Mode().Perm() & 0o022; others != 0 {
		return terminal.WithHint(fmt.Errorf("--dir %s can be written by other users: it %s", path, namedfile.Described(info)),
			"they could add keys of their own, which the readers of the directory would trust: %s", namedfile.TakeAway("go-w", path, info))
	}
	return nil
}

// patience is how long an export waits for another one in the same directory.
const patience = 10 * time.Second

func (d *directory) lock(ctx context.Context) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(d.self.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", d.path, err)
		case time.Now().After(deadline):
			return terminal.WithHint(fmt.Errorf("another export writes to %s", d.path), "give each export a directory of its own")
		}
	}
}

func (d *directory) close() {
	if d.self != nil {
		d.self.Close()
	}
	d.root.Close()
}

// A found is what a directory has under a name.
type found struct {
	absent  bool
	regular bool
	content []byte // of a regular file, unless it is longer than maxContent
}

// maxContent is more than a file of an export can have: a key set is bounded by 256 KiB.
const maxContent = 1 << 20

// look reads what has the name.
func (d *directory) look(name string) (found, error) {
	info, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return found{absent: true}, nil
	case err != nil:
		return found{}, d.explain(name, err)
	case info.IsDir():
		return found{}, fmt.Errorf("%s is a directory", filepath.Join(d.path, name))
	case !info.Mode().IsRegular():
		return found{}, nil
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return found{}, d.explain(name, err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxContent+1))
	if err != nil {
		return found{}, d.explain(name, err)
	}
	if len(content) > maxContent {
		content = nil
	}
	return found{regular: true, content: content}, nil
}

// replace gives a file its content in one step. A reader sees the old content or the new one. The new name is durable
// after the next sync.
func (d *directory) replace(name string, content []byte) error {
	f, err := d.root.OpenFile(tempName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return d.explain(name, err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask is
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.root.Rename(tempName, name)
	}
	if err != nil {
		d.root.Remove(tempName)
		return d.explain(name, err)
	}
	return nil
}

// remove removes a file that may be absent.
func (d *directory) remove(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.explain(name, err)
	}
	return nil
}

// sync makes the names durable.
func (d *directory) sync() error { return d.explain(".", d.self.Sync()) }

// explain names the file of an error and what to do.
func (d *directory) explain(name string, err error) error {
	if err == nil {
		return nil
	}
	path := filepath.Join(d.path, name)
	what := fmt.Errorf("%s: %w", path, durable.WithoutPath(err))
	return full(d.path, namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToCreate}, what))
}

// full says what to do if a disk is full.
func full(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return terminal.WithHint(err, "free space on the disk of %s and run it again; each file there is whole, old or new", path)
	}
	return err
}
