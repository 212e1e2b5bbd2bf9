package bolt

import (
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
