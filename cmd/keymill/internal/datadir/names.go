package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/trialca"
)

// dataFiles are the files that a server keeps in its data directory, besides its lock and its socket.
var dataFiles = [...]string{"keymill.db", "keymill.mark", "keymill.revoked", "dev-master-key", "dev-credentials", trialca.CAFile, trialca.CAKey, trialca.CertFile, trialca.KeyFile}

// checkNames refuses a data directory in which something else stands at the name of a file that a
// start opens. Another user who can write in the directory may have put it there: a link would lead
// to another file of this user, and a FIFO would block the start. It changes nothing.
func checkNames(dir string) error {
	for _, name := range append(dataFiles[:], "lock") {
		path := filepath.Join(dir, name)
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := checkRegular(path, info); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, "admin.sock")
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is not a socket; remove it", path)
	}
	return nil
}

func checkRegular(path string, info fs.FileInfo) error {
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		return fmt.Errorf("%s is a symbolic link; remove it", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file; remove it", path)
	}
	return nil
}

// openLock opens DIR/lock, and creates it if it is missing. It follows no link and waits for
// nothing. Another user who owns the file, or has it under another name, could hold its lock.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		if info, err := os.Lstat(path); err == nil {
			if err := checkRegular(path, info); err != nil {
				return nil, err
			}
		}
		return nil, namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToWrite}, fmt.Errorf("cannot write in the data directory: %w", err))
	}
	info, err := f.Stat()
	if err == nil {
		err = checkLock(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkLock(path string, info fs.FileInfo) error {
	if err := checkRegular(path, info); err != nil {
		return err
	}
	if names := info.Sys().(*syscall.Stat_t).Nlink; names > 1 {
		return fmt.Errorf("%s is a hard link to a file that has %d names; remove it", path, names)
	}
	if uid, us := ownerOf(info), os.Geteuid(); us != 0 && uid != us {
		return terminal.WithHint(fmt.Errorf("%s %s, and this process runs as uid %d", path, namedfile.Described(info), us),
			"%s; or run the server as its owner", namedfile.Chown(path, info, us))
	}
	return nil
}
