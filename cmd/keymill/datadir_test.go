package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAFailedStartTakesAwayOnlyWhatItMade.
func TestAFailedStartTakesAwayOnlyWhatItMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	d.abandon()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the directory is left behind: %v", err)
	}

	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if d, err = openDataDir(path); err != nil {
		t.Fatal(err)
	}
	d.abandon()
	if got := snapshot(t, path); got != " drwx------\n" {
		t.Errorf("left behind: %s", got)
	}

	if d, err = openDataDir(path); err != nil {
		t.Fatal(err)
	}
	d.release()
	if d, err = openDataDir(path); err != nil {
		t.Fatal(err)
	}
	d.abandon() // the lock file was there before
	if _, err := os.Stat(filepath.Join(path, "lock")); err != nil {
		t.Errorf("the lock file of another start was removed: %v", err)
	}
}

// TestASecretFileIsWholeAndPrivate also when it replaces one that was not.
func TestASecretFileIsWholeAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("old and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeSecretFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	info, _ := os.Stat(path)
	if err != nil || string(got) != "new" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, %v, %v", got, info.Mode(), err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}
