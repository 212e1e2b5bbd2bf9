package datadir

import (
	"bytes"
	"io/fs"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// warnings protects the directory and returns the warning that is logged.
func warnings(t *testing.T, d *Dir) string {
	t.Helper()
	var log bytes.Buffer
	if err := d.Protect(slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Error(err)
	}
	return log.String()
}

// TestRootKeepsTheModeOfAnotherUsersDirectory although root could change it: a container may run as root
// on a volume that others use too. The directories are used in the real program by other tests.
func TestRootKeepsTheModeOfAnotherUsersDirectory(t *testing.T) {
	terminaltest.NeedRoot(t)
	for _, tt := range []struct {
		uid, gid   int
		mode, want fs.FileMode
		warns      string
		refused    bool
	}{
		{1002, 2000, 0o770, 0o770, "mode=0770 uid=1002 gid=2000", false},
		{1002, 2000, fs.ModeSetgid | 0o775, fs.ModeSetgid | 0o775, "mode=2775 uid=1002 gid=2000", false},
		{1002, 1002, 0o700, 0o700, "mode=0700 uid=1002 gid=1002", false},
		{0, 2000, fs.ModeSetgid | 0o775, 0o700, "", false},
		{0, 0, 0o777, 0o700, "", false},
		{0, 0, 0o700, 0o700, "", false},
		{1002, 1002, 0o777, 0, "", true},
		{1002, 2000, fs.ModeSticky | 0o777, 0, "", true},
	} {
		path := t.TempDir()
		if os.Chown(path, tt.uid, tt.gid) != nil || os.Chmod(path, tt.mode) != nil {
			t.Fatal("cannot give the directory away")
		}
		if err := Check(path); (err != nil) != tt.refused {
			t.Errorf("%+v: %v", tt, err)
		}
		if tt.refused {
			continue
		}
		d := &Dir{path: path}
		if log := warnings(t, d); !strings.Contains(log, tt.warns) || (log == "") != (tt.warns == "") {
			t.Errorf("%+v: the log is %s", tt, log)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|tt.want {
			t.Errorf("%+v: %v, %v", tt, info.Mode(), err)
		}
		d.Undo()
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|tt.mode {
			t.Errorf("%+v after Undo: %v, %v", tt, info.Mode(), err)
		}
	}
}

// TestADirectoryWithoutModesIsUsedWithAWarning: some file systems refuse chmod, as that of /proc does.
func TestADirectoryWithoutModesIsUsedWithAWarning(t *testing.T) {
	if log := warnings(t, &Dir{path: "/proc/self"}); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "mode=0555") {
		t.Errorf("the log is %s", log)
	}
}

// TestACheckLeavesOtherErrorsToTheStart: nothing there, a file, and a link to nowhere.
func TestACheckLeavesOtherErrorsToTheStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"missing", "file", "link", "."} {
		if err := Check(dir + "/" + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAFIFOInPlaceOfTheDirectoryDoesNotBlock: Open then says that it is no directory.
func TestAFIFOInPlaceOfTheDirectoryDoesNotBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Error(err)
	}
}
