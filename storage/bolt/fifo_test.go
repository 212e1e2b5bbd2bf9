package bolt

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAFIFOIsRefusedAndDoesNotBlock: opening one waits for a writer, unless it is opened without blocking.
func TestAFIFOIsRefusedAndDoesNotBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keymill.db")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() error{
		"read-only":  func() error { _, err := OpenReadOnly(path); return err },
		"read-write": func() error { _, err := Open(path, Options{}); return err },
	} {
		if err := open(); err == nil || !strings.Contains(err.Error(), "regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestALinkIsFollowedOnlyToRead: another user may have put it into the directory.
func TestALinkIsFollowedOnlyToRead(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.db"), filepath.Join(dir, "keymill.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{path, path + "-missing"} {
		os.Remove(link)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(link, Options{}); err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("%s: %v, %v", target, s, err)
		}
	}
	if _, err := os.Lstat(path + "-missing"); err == nil {
		t.Error("the target was created")
	}
	os.Remove(link)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenReadOnly(link); err != nil {
		t.Fatal(err)
	}
	s.Close()
}
