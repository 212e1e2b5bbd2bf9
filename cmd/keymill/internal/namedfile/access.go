// Package namedfile opens files whose paths an operator gives: the configuration, secrets, keys and imports.
// What is at such a path may be anything. So a file is opened without blocking and read with a bound, and a
// FIFO that no program writes, an endless device, a socket and a directory are one line each.
//
// The package also says why a file cannot be opened: who owns it, with which mode, and the line to type.
// An error "permission denied" alone sends an operator to look for the owner, the mode and the user of
// the process. After a copy was put back by root, that is the whole fault.
package namedfile

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/terminal"
)

// A Use is what a process does with a file.
type Use string

// The uses. They decide what is checked, and how a file that is not accessible is given to the user.
const (
	ToWrite  Use = "write"  // reads and writes it
	ToRead   Use = "read"   // reads it, and no other user should
	ToShare  Use = "share"  // reads it, as other users may
	ToCreate Use = "create" // makes, replaces and removes files in this directory
	ToMake   Use = "make"   // makes this directory, and owns it

	toEnter Use = "enter" // finds a file below this directory
)

// A Need is a file that a process must be able to open.
type Need struct {
	Path string `json:"path"`
	Use  Use    `json:"use"`
}

// A Fault says why a process cannot open a file, and what to type.
type Fault struct {
	Path string `json:"path"`
	What string `json:"what"` // "open /d/keymill.db: permission denied; it belongs to …"
	Hint string `json:"hint"`
}

// Owner returns the user and the group of a file.
func Owner(info fs.FileInfo) (uid, gid int) {
	s := info.Sys().(*syscall.Stat_t)
	return int(s.Uid), int(s.Gid)
}

// Described returns who owns a file, with its mode as chmod takes it.
func Described(info fs.FileInfo) string {
	uid, gid := Owner(info)
	return fmt.Sprintf("belongs to uid %d, gid %d (mode %04o)", uid, gid, info.Sys().(*syscall.Stat_t).Mode&0o7777)
}

// Denied completes an error of the system that keeps this process from the file at path. It adds who owns
// what is in the way, the user of this process, and the line to type. It returns any other error as it is,
// and one that has a hint already.
func Denied(n Need, err error) error {
	what, hint := reason(n, err)
	if what == "" || terminal.HintOf(err) != "" {
		return err
	}
	return terminal.WithHint(fmt.Errorf("%w; %s, and this process runs as uid %d", err, what, os.Geteuid()), "%s", hint)
}

// DeniedAnywhere is Denied for the file that err names.
func DeniedAnywhere(err error) error {
	if named := (*fs.PathError)(nil); errors.As(err, &named) {
		return Denied(Need{named.Path, ToWrite}, err)
	}
	return err
}

// Check tries what the use needs, as the user of this process and without any change. A file that is
// missing is no fault.
func Check(n Need) *Fault {
	err := try(n)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	what, hint := reason(n, err)
	if what != "" {
		what = "; " + what
	}
	return &Fault{n.Path, terminal.Plain(err) + what, hint}
}

// try opens a regular file, because access(2) does not know of a file that only grows (chattr +a).
// Of anything else it asks access(2), because opening a FIFO or a device can have effects.
func try(n Need) error {
	flag, right := os.O_RDONLY, uint32(unix.R_OK)
	switch n.Use {
	case ToWrite:
		flag, right = os.O_RDWR, unix.R_OK|unix.W_OK
	case ToCreate:
		right = unix.R_OK | unix.W_OK | unix.X_OK
	}
	info, err := os.Stat(n.Path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		if err := unix.Access(n.Path, right); err != nil {
			return &fs.PathError{Op: "open", Path: n.Path, Err: err}
		}
		return nil
	}
	f, err := os.OpenFile(n.Path, flag|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// reason returns what keeps this process from a file, and what to type: "" if err has another reason.
func reason(n Need, err error) (what, hint string) {
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
		return "", ""
	}
	at := obstacle(n)
	info, statErr := os.Stat(at.Path)
	if statErr != nil {
		return "", ""
	}
	what = at.Path + " "
	if at.Path == absolute(n.Path) && strings.Contains(terminal.Plain(err), n.Path) {
		what = "it "
	}
	word := terminal.ShellWord(at.Path)
	switch {
	case errors.Is(err, unix.EROFS):
		return what + "is on a file system that is mounted read-only", "mount it for writing; to see the mount: findmnt -T " + word
	case isProtected(at.Path):
		return what + "is protected from changes (chattr +i or +a)", "chattr -i -a " + word
	}
	what += Described(info)
	if at.Use == ToCreate && classOf(info) != 'u' {
		if n.Use == ToMake {
			return what, ownDirectory(absolute(n.Path))
		}
		if isShared(at.Path) {
			return what + " and holds directories of others; name one of the server's own in the configuration", ownDirectory(filepath.Join(at.Path, "keymill-files"))
		}
	}
	return what, give(at.Use, word, info)
}

// ownDirectory returns the line that makes a directory of the user of this process.
func ownDirectory(path string) string {
	return fmt.Sprintf("install -d -m 700 -o %d -g %d %s", os.Geteuid(), os.Getegid(), terminal.ShellWord(path))
}

// isShared reports whether a directory holds other directories, as /etc and /var/lib do. A server keeps
// only files in a directory, so this one must not be given to it. It is so too if that cannot be seen.
func isShared(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.IsDir() && e.Name() != "lost+found" })
}

// obstacle returns what this process lacks: to enter a directory above the file, to make a file in its
// directory, or to open the file itself.
func obstacle(n Need) Need {
	path := absolute(n.Path)
	for range maxLinks {
		for dir := range above(path) {
			if unix.Access(dir, unix.X_OK) != nil {
				return Need{dir, toEnter}
			}
		}
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Clean(target)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return Need{filepath.Dir(path), ToCreate}
	}
	return Need{path, n.Use}
}

// maxLinks is how many links of one path are followed; the system allows 40.
const maxLinks = 40

// above yields the directories above path, from the root on.
func above(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, c := range path {
			if c == '/' && !yield(path[:max(i, 1)]) {
				return
			}
		}
	}
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// isProtected reports whether the file or directory has one of the attributes that chattr(1) sets and that
// not even root gets past.
func isProtected(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &st)
	return err == nil && st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0
}

// give returns the line that gives this process what it lacks: "" if owner and mode are as they should be.
func give(use Use, word string, info fs.FileInfo) string {
	class := classOf(info)
	us := class == 'u'
	switch {
	case use == toEnter, use == ToCreate && class == 'g', us && !has(info, use):
		return fmt.Sprintf("chmod %c+%s %s", class, rights(use), word)
	case us:
		return ""
	case use == ToShare:
		return fmt.Sprintf("chgrp %d %s; chmod g+r %s", os.Getegid(), word, word)
	}
	return chown(os.Geteuid(), use, word, info)
}

// Chown returns the line that gives a file to a user who reads and writes it.
func Chown(path string, info fs.FileInfo, uid int) string {
	return chown(uid, ToWrite, terminal.ShellWord(path), info)
}

// TakeAway returns what to do about a directory that other users can write in: a chmod with the change, or, if it is made
// to be shared as /tmp is, another directory. A chmod of /tmp would break other programs.
func TakeAway(change, path string, info fs.FileInfo) string {
	if info.Mode()&fs.ModeSticky != 0 {
		return "choose another directory: " + path + " is shared by all users (sticky bit)"
	}
	return "chmod " + change + " " + terminal.ShellWord(path)
}

func chown(uid int, use Use, word string, info fs.FileInfo) string {
	line := fmt.Sprintf("chown %d %s", uid, word)
	if !has(info, use) {
		line += fmt.Sprintf("; chmod u+%s %s", rights(use), word)
	}
	return line
}

func rights(use Use) string {
	return map[Use]string{ToWrite: "rw", ToRead: "r", ToShare: "r", ToCreate: "rwx", toEnter: "x"}[use]
}

// has reports whether the owner has the rights that the use needs.
func has(info fs.FileInfo, use Use) bool {
	need := map[Use]fs.FileMode{ToWrite: 0o600, ToRead: 0o400, ToShare: 0o400, ToCreate: 0o700}[use]
	return info.Mode()&need == need
}

// classOf returns which rights of a file concern this process: those of its owner, group or all others.
func classOf(info fs.FileInfo) rune {
	uid, gid := Owner(info)
	groups, _ := os.Getgroups()
	switch {
	case uid == os.Geteuid():
		return 'u'
	case gid == os.Getegid(), slices.Contains(groups, gid):
		return 'g'
	}
	return 'o'
}
