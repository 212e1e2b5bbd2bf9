package bolt

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"keymill/storage"
)

func put(t *testing.T, s *Store, key, value string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
		t.Fatal(err)
	}
}

// TestAReadOnlyStoreChangesNothing, needs no permission to write, and is not shared with a server.
func TestAReadOnlyStoreChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keymill.db")
	if _, err := OpenReadOnly(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v was created, %v", left, err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/1", "one")
	put(t, s, "a/2", "two")
	if _, err := OpenReadOnly(path); !errors.Is(err, ErrInUse) {
		t.Errorf("beside a server: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	first, err1 := OpenReadOnly(path)
	second, err2 := OpenReadOnly(path) // readers do not exclude each other
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{first, second} {
		if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("a/1", []byte("x")) }); !errors.Is(err, ErrReadOnly) {
			t.Errorf("Update: %v", err)
		}
		if err := s.Check(t.Context()); err != nil {
			t.Error(err)
		}
		n := 0
		err := s.View(t.Context(), func(r storage.Reader) error {
			for range r.Scan("a/", "a0") {
				n++
			}
			v, err := r.Get("a/1")
			if string(v) != "one" {
				t.Errorf("read %q", v)
			}
			return err
		})
		if err != nil || n != 2 {
			t.Errorf("%d records, %v", n, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.View(t.Context(), func(storage.Reader) error { return nil }); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed, %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 5000)); err != nil {
		t.Fatal(err)
	}
	if s, err := OpenReadOnly(path); err == nil {
		s.Close()
		t.Error("a truncated file was opened")
	}
}
