package datadir

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/storage/durable"
)

func TestAFailedStartRemovesOnlyWhatItCreated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	d.Undo()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the directory is left behind: %v", err)
	}

	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(path, true); err != nil {
		t.Fatal(err)
	}
	d.Undo()
	if names, err := os.ReadDir(path); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}

	if d, err = Open(path, true); err != nil {
		t.Fatal(err)
	}
	d.Release()
	if d, err = Open(path, true); err != nil {
		t.Fatal(err)
	}
	d.Undo() // the lock file was there before
	if _, err := os.Stat(filepath.Join(path, "lock")); err != nil {
		t.Errorf("the lock file of another start was removed: %v", err)
	}
}

// TestASecretFileIsWholeAndPrivate holds also when it replaces a file that was neither.
func TestASecretFileIsWholeAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("old and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	info, _ := os.Stat(path)
	if err != nil || string(got) != "new" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, %v, %v", got, info.Mode(), err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.new-*")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestLinksInTheDirectoryAreNotFollowed: another user who can write in it may have put them there.
func TestLinksInTheDirectoryAreNotFollowed(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{outside, outside + "-missing"} {
		dir := t.TempDir()
		if err := os.Symlink(to, filepath.Join(dir, "lock")); err != nil {
			t.Fatal(err)
		}
		if d, err := Open(dir, true); err == nil || !strings.Contains(err.Error(), "lock is a symbolic link; remove it") {
			t.Errorf("%s: %v, %v", to, d, err)
		}
	}
	if _, err := os.Lstat(outside + "-missing"); !os.IsNotExist(err) {
		t.Errorf("the target of a link was created: %v", err)
	}
	d, err := Open(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Release()
	for _, name := range []string{"keymill.db", "dev-master-key", "dev-credentials"} {
		if err := os.Symlink(outside, filepath.Join(d.path, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.ProtectFiles(slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode() != 0o644 {
		t.Errorf("the target of a link is %v, %v", info.Mode(), err)
	}
}

// TestTheLockOfRootIsTheOwners: a command of root that is killed leaves the file, and the next start must be
// able to open it.
func TestTheLockOfRootIsTheOwners(t *testing.T) {
	terminaltest.NeedRoot(t)
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Undo()
	info, err := os.Stat(filepath.Join(dir, "lock"))
	if err != nil || ownerOf(info) != 65534 {
		t.Errorf("%v, %v", info, err)
	}
}
