package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

const worldWritable = 0o002

// Check refuses a data directory in which every user can replace files, or that cannot be read, and
// a store of another user. It changes nothing, and a start calls it before it writes. A directory that
// belongs to this user is accepted, because Protect changes its mode, and so is one that is missing.
func Check(path string) error {
	// To sync a directory, it must be readable. A FIFO in its place must not block the start.
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToCreate}, fmt.Errorf("cannot read the data directory: %w", err))
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil || !info.IsDir() {
		return err // Open says what is wrong with a file
	}
	if uid := ownerOf(info); uid != os.Geteuid() && info.Mode()&worldWritable != 0 {
		return terminal.WithHint(fmt.Errorf("the data directory %s belongs to uid %d, and every user can write in it (mode %04o)", path, uid, modeBits(info)),
			"%s", namedfile.TakeAway("o-w", path, info))
	}
	if err := checkNames(path); err != nil {
		return err
	}
	return checkStoreOwner(filepath.Join(path, "keymill.db"))
}

// checkStoreOwner refuses a store of another user, unless this process is root. That user could read
// and change it, and commands trust only the owner of the store as its server (see serve.DialAdmin).
func checkStoreOwner(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil // there is no store, or opening it says what is wrong
	}
	if uid, us := ownerOf(info), os.Geteuid(); us != 0 && uid != us {
		return terminal.WithHint(fmt.Errorf("%s %s, and the server runs as uid %d", path, namedfile.Described(info), us),
			"%s; or run the server as its owner", namedfile.Chown(path, info, us))
	}
	return nil
}

func ownerOf(info fs.FileInfo) int {
	uid, _ := namedfile.Owner(info)
	return uid
}

// modeBits returns the mode as chmod takes it, with the bits for set-group-id and sticky.
func modeBits(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Mode & 0o7777 }

// Protect makes the directory private if it belongs to this user. The directory of another user, such as
// a mounted volume, keeps its mode. Then, and where the file system keeps no modes, one line in the log
// says who else has access. Undo takes the change back.
func (d *Dir) Protect(log *slog.Logger) error {
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	if ownerOf(info) == os.Geteuid() && openToOthers(info) {
		if err := os.Chmod(d.path, 0o700); err == nil {
			d.oldMode = info.Mode()
		} else if info.Mode()&worldWritable != 0 {
			return fmt.Errorf("data directory: every user can write in it (mode %04o), and that cannot be changed: %w", modeBits(info), err)
		}
		if info, err = os.Stat(d.path); err != nil {
			return err
		}
	}
	if ownerOf(info) != os.Geteuid() || openToOthers(info) {
		log.Warn("other users have access to the data directory, and any user who can write in it can replace the store",
			"data", d.path, "mode", fmt.Sprintf("%04o", modeBits(info)), "uid", ownerOf(info), "gid", int(info.Sys().(*syscall.Stat_t).Gid))
	}
	return nil
}

// openToOthers reports whether users other than the owner have any right.
func openToOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// ProtectFiles makes the files in the directory private, and says who had access to which. They are
// created so, but Kubernetes lets the group of a volume (fsGroup) write every file at each mount. The
// file of another user keeps its mode, which the log then says. Links are not followed, because
// another user who can write in the directory may have put them there.
func (d *Dir) ProtectFiles(log *slog.Logger) error {
	errs := []error{makePrivate(d.lock, log)} // to close another descriptor of it would end the lock
	for _, name := range dataFiles {
		f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue // it is missing or a link
		}
		errs = append(errs, makePrivate(f, log), f.Close())
	}
	return errors.Join(errs...)
}

func makePrivate(f *os.File, log *slog.Logger) error {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !openToOthers(info) {
		return err
	}
	attrs := []any{"file", f.Name(), "mode", fmt.Sprintf("%04o", modeBits(info)), "access", accessOfOthers(info)}
	hardLink := info.Sys().(*syscall.Stat_t).Nlink > 1 && filepath.Base(f.Name()) != "keymill.db"
	if ownerOf(info) != os.Geteuid() || hardLink {
		log.Warn("other users have access to a file in the data directory, and its mode is not changed: it belongs to another user or has another name",
			append(attrs, "uid", ownerOf(info))...)
		return nil
	}
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	log.Warn("made a file in the data directory private (mode 0600): other users had access to it", attrs...)
	return nil
}

// accessOfOthers says who but the owner can do what, such as "group 2000: read; every user: read".
func accessOfOthers(info fs.FileInfo) string {
	var list []string
	for _, who := range []struct {
		name  string
		shift int
	}{{fmt.Sprintf("group %d", info.Sys().(*syscall.Stat_t).Gid), 3}, {"every user", 0}} {
		var rights []string
		for i, right := range []string{"read", "write", "execute"} {
			if info.Mode().Perm()>>who.shift&(4>>i) != 0 {
				rights = append(rights, right)
			}
		}
		if len(rights) > 0 {
			list = append(list, who.name+": "+strings.Join(rights, ", "))
		}
	}
	return strings.Join(list, "; ")
}
