package datadir

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestOnlyFilesOfItsOwnAreOpened: whatever stands at a name in the data directory, a start neither
// follows a link, nor waits, nor changes what is behind the name.
func TestOnlyFilesOfItsOwnAreOpened(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"lock", "keymill.db", "keymill.mark", "dev-master-key", "dev-credentials", "admin.sock"} {
		for what, put := range map[string]func(path, target string) error{
			"a symbolic link": func(path, target string) error { return os.Symlink(target, path) },
			"a dangling link": func(path, target string) error { return os.Symlink(target+"-missing", path) },
			"a FIFO":          func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
			"a directory":     func(path, _ string) error { return os.Mkdir(path, 0o700) },
			"a hard link":     func(path, target string) error { return os.Link(target, path) },
		} {
			top := t.TempDir()
			dir, target := filepath.Join(top, "data"), filepath.Join(top, "target")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(target, []byte("mine"), 0o644); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name)
			if err := put(path, target); err != nil {
				t.Fatal(err)
			}
			err := Check(dir)
			if err == nil && name == "lock" {
				_, err = Open(dir, false)
			}
			// A store may have a second name, after an interrupted init. Other files are replaced
			// or only read.
			refused := what != "a hard link" || name == "lock" || name == "admin.sock"
			if refused != (err != nil) || refused && (!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove it")) {
				t.Errorf("%s at %s: %v", what, name, err)
			}
			if name == "lock" {
				if d, err := Open(dir, false); err == nil { // also without Check, as doctor does
					d.Release()
					t.Errorf("%s: the lock is taken", what)
				}
			}
			if b, err := os.ReadFile(target); err != nil || string(b) != "mine" {
				t.Errorf("%s at %s: the target is %q, %v", what, name, b, err)
			}
			if info, err := os.Stat(target); err != nil || info.Mode() != 0o644 {
				t.Errorf("%s at %s: the target has %v", what, name, info.Mode())
			}
			if _, err := os.Lstat(target + "-missing"); err == nil {
				t.Errorf("%s at %s: the target was created", what, name)
			}
		}
	}
}

// TestFilesThatOthersCanReadBecomePrivateAndAreNamed in one line each.
func TestFilesThatOthersCanReadBecomePrivateAndAreNamed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mode   os.FileMode
		access string
	}{
		{"keymill.db", 0o640, "group 0: read"},
		{"keymill.db", 0o604, "every user: read"},
		{"keymill.db", 0o620, "group 0: write"},
		{"lock", 0o666, "group 0: read, write; every user: read, write"},
		{"keymill.mark", 0o606, "every user: read, write"},
		{"dev-credentials", 0o644, "group 0: read; every user: read"},
		{"dev-master-key", 0o602, "every user: write"},
		{"dev-master-key", 0o700, ""},
		{"keymill.db", 0o600, ""},
		{"keymill.db", 0o400, ""},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, tt.name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		d, err := Open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		if err := d.ProtectFiles(slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Error(err)
		}
		d.Release()
		want := os.FileMode(0o600)
		if tt.access == "" {
			want = tt.mode
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", tt.name, info.Mode(), err)
		}
		access := strings.ReplaceAll(tt.access, "group 0", "group "+strconv.Itoa(os.Getegid()))
		said := strings.Contains(log.String(), path) && strings.Contains(log.String(), `access="`+access+`"`)
		if lines := strings.Count(log.String(), "level=WARN"); said != (tt.access != "") || said && lines != 1 || !said && lines != 0 {
			t.Errorf("%s %v: the log is %s", tt.name, tt.mode, log.String())
		}
	}
}

// TestTheModeOfAForeignFileStays, and the log says who has access.
func TestTheModeOfAForeignFileStays(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(target, filepath.Join(dir, "dev-credentials")); err != nil {
		t.Fatal(err)
	}
	foreign := 0
	if os.Geteuid() == 0 {
		path := filepath.Join(dir, "keymill.db")
		if os.WriteFile(path, nil, 0o600) != nil || os.Chown(path, 1002, 2000) != nil || os.Chmod(path, 0o640) != nil {
			t.Fatal("cannot give a file away")
		}
		foreign = 1
	}
	d, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Release()
	var log bytes.Buffer
	if err := d.ProtectFiles(slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Error(err)
	}
	if strings.Count(log.String(), "its mode is not changed") != 1+foreign || foreign == 1 && !strings.Contains(log.String(), "uid=1002") {
		t.Errorf("the log is %s", log.String())
	}
	if info, err := os.Stat(target); err != nil || info.Mode() != 0o644 {
		t.Errorf("the target has %v, %v", info.Mode(), err)
	}
}
