// Package unixsocket listens on Unix sockets. A socket has its mode from its first moment, and a path where a program
// listens is never taken from it.
package unixsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// Create listens at path, where nothing is. The umask gives the socket its mode: a chmod would follow a link that a
// member of the directory's group can put in its place. The umask is one of the process, so no other goroutine may make
// a file or a directory at this time. The listener removes the socket when it is closed.
func Create(path string, mode fs.FileMode) (net.Listener, error) {
	old := syscall.Umask(0o777 &^ int(mode.Perm()))
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	return l, err
}

// Claim is Create at a path that an operator names. It replaces a socket that a process has left behind. It refuses
// anything else at that path, and a directory in which every user can write: one of them could put a socket of their own
// there, which then answers in place of this process.
func Claim(path string, mode fs.FileMode) (net.Listener, error) {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, terminal.WithHint(fmt.Errorf("the directory %s does not exist", dir), "mkdir %s", terminal.ShellWord(dir))
	case err == nil && !info.IsDir():
		return nil, fmt.Errorf("%s is not a directory", dir)
	case err == nil && info.Mode().Perm()&0o002 != 0:
		return nil, terminal.WithHint(fmt.Errorf("every user can write in %s, and so put a socket there that answers in place of this server", dir),
			"%s", namedfile.TakeAway("o-w", dir, info))
	case err == nil:
		err = removeStale(path)
	}
	var l net.Listener
	if err == nil {
		l, err = Create(path, mode)
	}
	return l, namedfile.Denied(namedfile.Need{Path: dir, Use: namedfile.ToCreate}, err)
}

// removeStale removes a socket that no process listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return terminal.WithHint(fmt.Errorf("%s exists and is not a socket", path), "choose another path, or remove it")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	}
	switch {
	case err == nil, errors.Is(err, syscall.EAGAIN): // EAGAIN: its queue of connections is full
		return terminal.WithHint(fmt.Errorf("another process listens on %s", path), "stop it, or choose another path")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist): // the process has just removed it
		return nil
	}
	return err
}
