package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// want compares the file at path with text, and the number of files beside it.
func want(t *testing.T, path, text string, files int) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != text {
		t.Errorf("%q, %v, want %q", got, err, text)
	}
	if list, _ := os.ReadDir(filepath.Dir(path)); len(list) != files {
		t.Errorf("%d files, want %d: %v", len(list), files, list)
	}
}

// TestReplaceMakesAPrivateFile, over another one and where there is none. A failure leaves the file and no other.
func TestReplaceMakesAPrivateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"one", "two"} {
		if err := Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		want(t, path, text, 1)
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	below := filepath.Join(filepath.Dir(path), "d")
	if err := os.MkdirAll(filepath.Join(below, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(below, []byte("three")); err == nil {
		t.Error("a directory was replaced")
	}
	want(t, path, "two", 2)
	if err := Replace(filepath.Join(path, "x"), nil); err == nil {
		t.Error("a file was made below a file")
	}
}

// TestLinkReplacesNoFile, also where the file system has no hard links.
func TestLinkReplacesNoFile(t *testing.T) {
	noLinks := func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM} }
	for name, system := range map[string]func(string, string) error{"links": os.Link, "no links": noLinks} {
		dir := t.TempDir()
		from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
		put(t, from, "new")
		put(t, to, "old")
		if err := link(system, from, to); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: over a file: %v", name, err)
		}
		want(t, to, "old", 2)
		if err := os.Remove(to); err != nil {
			t.Fatal(err)
		}
		if err := link(system, from, to); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want(t, to, "new", map[string]int{"links": 2, "no links": 1}[name])
	}
}

func TestWithoutPathKeepsTheReason(t *testing.T) {
	_, open := os.Open("/nothing/x")
	for _, err := range []error{open, os.Rename("/nothing/x", "/nothing/y"), errors.New("another")} {
		short := WithoutPath(err)
		if !errors.Is(err, short) || len(short.Error()) > len("no such file or directory") {
			t.Errorf("%v", short)
		}
	}
}

func TestFreeKnowsTheDisk(t *testing.T) {
	if n, err := Free(t.TempDir()); err != nil || n <= 0 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := Free("/nothing"); err == nil {
		t.Error("a path that is missing has a disk")
	}
}
