package unixsocket

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// place returns a path for a socket. t.TempDir can be too long for one.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// TestASocketHasItsModeWhateverTheUmask is.
func TestASocketHasItsModeWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o777} {
		for _, mode := range []fs.FileMode{0o600, 0o660} {
			path := place(t)
			old := syscall.Umask(umask)
			l, err := Claim(path, mode)
			after := syscall.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != mode || info.Mode().Type() != fs.ModeSocket || after != umask {
				t.Errorf("umask %03o: %v (%v), want %v; the umask is %03o", umask, info.Mode(), err, mode, after)
			}
			l.Close()
			if _, err := os.Lstat(path); err == nil {
				t.Error("the socket is still there after the listener was closed")
			}
		}
	}
}

// TestTheGroupOfASocketIsThatOfItsDirectory, if that has the set-group-id bit, as docs/verify/nginx.md says.
func TestTheGroupOfASocketIsThatOfItsDirectory(t *testing.T) {
	terminaltest.NeedRoot(t)
	path := place(t)
	dir := filepath.Dir(path)
	if err := os.Chown(dir, 0, 33); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o750|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	l, err := Claim(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil || info.Sys().(*syscall.Stat_t).Gid != 33 {
		t.Errorf("%+v (%v)", info.Sys(), err)
	}
}

func TestASocketOfAnEndedProcessIsReplaced(t *testing.T) {
	path := place(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	again, err := Claim(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	go func() {
		if c, err := again.Accept(); err == nil {
			c.Close()
		}
	}()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestNothingElseIsReplaced: what is at the path stays, and the error says what to do.
func TestNothingElseIsReplaced(t *testing.T) {
	for what, tt := range map[string]struct {
		prepare    func(t *testing.T, path string) error
		want, hint string
	}{
		"a process": {func(t *testing.T, path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}, "another process listens on", "stop it"},
		"a file":      {func(_ *testing.T, path string) error { return os.WriteFile(path, nil, 0o600) }, "is not a socket", "remove it"},
		"a directory": {func(_ *testing.T, path string) error { return os.Mkdir(path, 0o700) }, "is not a socket", "remove it"},
		"a link":      {func(_ *testing.T, path string) error { return os.Symlink("elsewhere", path) }, "is not a socket", "remove it"},
		"no directory": {func(_ *testing.T, path string) error { return os.Remove(filepath.Dir(path)) },
			"does not exist", "mkdir"},
		"a directory for all": {func(_ *testing.T, path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
			"every user can write", "chmod o-w"},
		"a directory as /tmp": {func(_ *testing.T, path string) error { return os.Chmod(filepath.Dir(path), 0o777|fs.ModeSticky) },
			"every user can write", "choose another directory"},
	} {
		path := place(t)
		if err := tt.prepare(t, path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		l, err := Claim(path, 0o660)
		if err == nil {
			l.Close()
			t.Errorf("%s: it was replaced", what)
			continue
		}
		after, _ := os.Lstat(path)
		if !strings.Contains(err.Error(), tt.want) || !strings.Contains(terminal.HintOf(err), tt.hint) || before != nil && !os.SameFile(before, after) {
			t.Errorf("%s: %v; %s", what, err, terminal.HintOf(err))
		}
	}
}
