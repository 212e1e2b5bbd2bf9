package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// fill puts records into a new store at path and deletes most of them again. It returns those that are left.
func fillAndDelete(t *testing.T, path string, records int) map[string]string {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]string{}
	for _, remove := range []bool{false, true} {
		for first := 0; first < records; first += 50 {
			if err := s.Update(t.Context(), func(tx storage.Tx) error {
				for n := first; n < min(first+50, records); n++ {
					key, value := fmt.Sprintf("kind-%d/%06d", n%3, n), strings.Repeat(fmt.Sprint(n, " "), n%400)
					switch {
					case !remove:
						if err := tx.Put(key, []byte(value)); err != nil {
							return err
						}
						left[key] = value
					case n%10 != 0:
						if err := tx.Delete(key); err != nil {
							return err
						}
						delete(left, key)
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return left
}

// all returns every record of the file, and fails if its pages are not whole.
func all(t *testing.T, path string) map[string]string {
	t.Helper()
	if err := CheckFile(t.Context(), path, func(int) {}); err != nil {
		t.Fatal(err)
	}
	s, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found := map[string]string{}
	if err := s.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			found[e.Key] = string(e.Value)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestCompactKeepsEveryRecord, the owner and the mode, and makes the file smaller. A second time there is nothing to
// gain, and the file stays the same one. What a kill left is replaced.
func TestCompactKeepsEveryRecord(t *testing.T) {
	for _, records := range []int{0, 1, 30, 5000} {
		path := filepath.Join(t.TempDir(), "keymill.db")
		left := fillAndDelete(t, path, records)
		os.WriteFile(path+compactSuffix, []byte("half a store"), 0o600)
		os.Chmod(path, 0o640)
		if os.Geteuid() == 0 {
			os.Chown(path, 12345, 12346)
		}
		before, _ := os.Stat(path)
		percent := 0
		c, err := Compact(t.Context(), path, func(n int) {
			if n < percent || n > 100 {
				t.Errorf("%d %% after %d %%", n, percent)
			}
			percent = n
		})
		if err != nil {
			t.Fatalf("%d records: %v", records, err)
		}
		after, _ := os.Stat(path)
		was, is := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
		if c.Records != len(left) || c.Before != before.Size() || c.After != after.Size() || is.Uid != was.Uid || is.Gid != was.Gid || is.Mode != was.Mode {
			t.Errorf("%d records: %+v, %+v", records, c, is)
		}
		if found := all(t, path); !maps.Equal(found, left) {
			t.Errorf("%d records: %d are left of %d", records, len(found), len(left))
		}
		if records == 5000 && c.After > c.Before/4 {
			t.Errorf("of %d bytes %d are left", c.Before, c.After)
		}
		again, err := Compact(t.Context(), path, func(int) {})
		if now, _ := os.Stat(path); err != nil || again.After != again.Before || !os.SameFile(now, after) {
			t.Errorf("%d records, again: %+v, %v", records, again, err)
		}
		if list := names(t, filepath.Dir(path)); len(list) != 1 {
			t.Errorf("the directory has %v", list)
		}
		if free, size, err := FreeBytes(path); err != nil || free > max(size/4, 16<<10) {
			t.Errorf("%d records: %d of %d bytes are free, %v", records, free, size, err)
		}
		s, err := Open(path, Options{}) // and it is a store
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("later", []byte("x")) }); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

// TestCompactOfManyRecords: the copy takes several transactions.
func TestCompactOfManyRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keymill.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for n := range 2 * buildBytes / (8 * 60_000) {
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			for i := range 8 {
				key, value := fmt.Sprintf("large/%03d-%d", n, i), strings.Repeat(fmt.Sprint(n%10), 60_000)
				if err := tx.Put(key, []byte(value)); err != nil {
					return err
				}
				want[key] = value
			}
			return tx.Put(fmt.Sprintf("small/%03d", n), nil)
		}); err != nil {
			t.Fatal(err)
		}
		want[fmt.Sprintf("small/%03d", n)] = ""
	}
	s.Close()
	c, err := Compact(t.Context(), path, func(int) {})
	if err != nil || c.Records != len(want) || c.After > c.Before {
		t.Errorf("%+v, %v", c, err)
	}
	if !maps.Equal(all(t, path), want) {
		t.Error("the records differ")
	}
	if c, err := Compact(t.Context(), path, func(int) {}); err != nil || c.After != c.Before {
		t.Errorf("again: %+v, %v", c, err)
	}
}

// TestAFailedCompactLeavesTheStore as it was, and no other file.
func TestAFailedCompactLeavesTheStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keymill.db")
	fillAndDelete(t, path, 3000)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for _, tt := range []struct {
		name    string
		prepare func()
		ctx     context.Context
		report  func(int)
		want    string
		is      error
	}{
		{"a signal before", cancel, ctx, func(int) {}, "", context.Canceled},
		{"an open store", func() {
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
		}, t.Context(), func(int) {}, "is in use by another process", ErrInUse},
		{"a link", func() { os.Rename(path, path+".real"); os.Symlink(path+".real", path) }, t.Context(), func(int) {}, "it is a symbolic link", nil},
		{"no file", func() { os.Remove(path) }, t.Context(), func(int) {}, "no such file", os.ErrNotExist},
		{"another file", func() { os.WriteFile(path, []byte("another file"), 0o600) }, t.Context(), func(int) {}, "not a Keymill store", nil},
		{"a damaged leaf", func() { os.WriteFile(path, damageLeaf(t, whole), 0o600) }, t.Context(), func(int) {}, "damaged", storage.ErrBroken},
		{"a bucket of another program", func() { addBucket(t, path) }, t.Context(), func(int) {}, "they would be lost: \"other\"", nil},
		{"a directory in the way", func() { os.MkdirAll(path+compactSuffix+"/x", 0o700) }, t.Context(), func(int) {}, "not empty", nil},
	} {
		clean(t, dir)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		tt.prepare()
		before, list := content(path), names(t, dir)
		c, err := Compact(tt.ctx, path, tt.report)
		if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) || c.After != c.Before {
			t.Errorf("%s: %+v, %v", tt.name, c, err)
		}
		if !bytes.Equal(content(path), before) || fmt.Sprint(names(t, dir)) != fmt.Sprint(list) {
			t.Errorf("%s: the store was changed, or the directory has %v", tt.name, names(t, dir))
		}
	}
}

// TestASignalAtAnyMomentLeavesTheStore: while it is copied and while it is compared.
func TestASignalAtAnyMomentLeavesTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keymill.db")
	fillAndDelete(t, path, 3000)
	whole := content(path)
	for at, seen := 0, 0; ; at, seen = at+max(1, seen/8), 0 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Compact(ctx, path, func(int) {
			if seen++; seen > at {
				cancel()
			}
		})
		cancel()
		if err == nil {
			if at < 8 {
				t.Errorf("only %d moments", at)
			}
			return // it has ended before
		}
		if !errors.Is(err, context.Canceled) || !bytes.Equal(content(path), whole) || len(names(t, filepath.Dir(path))) != 1 {
			t.Fatalf("after %d pages: %v, %v", at, err, names(t, filepath.Dir(path)))
		}
	}
}

// TestCompactComparesWhatItWrote: a disk that returns other bytes than it got is noticed before the rename.
func TestCompactComparesWhatItWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keymill.db")
	fillAndDelete(t, path, 3000)
	whole, changed := content(path), false
	_, err := Compact(t.Context(), path, func(percent int) {
		if percent <= 50 || changed { // it is still written
			return
		}
		copied := content(path + compactSuffix)
		at := bytes.LastIndex(copied, []byte("2990 2990 "))
		if at < 0 {
			t.Fatal("the copy does not have the record")
		}
		changed = true
		f, err := os.OpenFile(path+compactSuffix, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("X"), int64(at)); err != nil {
			t.Fatal(err)
		}
	})
	if !changed || !errors.Is(err, storage.ErrBroken) || !strings.Contains(err.Error(), "or one differs") || !bytes.Equal(content(path), whole) {
		t.Errorf("changed: %v, %v", changed, err)
	}
}

// TestCompactOnAFullDisk says how much it needs, or fails while it writes, and leaves the store.
func TestCompactOnAFullDisk(t *testing.T) {
	for size, want := range map[string]string{"9m": "the new file needs ", "16m": "no space left on device"} {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip("cannot mount a small disk: ", err)
		}
		defer syscall.Unmount(dir, syscall.MNT_DETACH)
		path := filepath.Join(dir, "keymill.db")
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 { // five megabytes that are in use
			if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(fmt.Sprintf("k/%03d", n), make([]byte, 50_000)) }); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		before := content(path)
		filled := false // while the copy is written
		_, err = Compact(t.Context(), path, func(percent int) {
			if !filled {
				os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 16<<20), 0o600)
			}
			filled = true
		})
		os.Remove(filepath.Join(dir, "filler"))
		if err == nil || !strings.Contains(err.Error(), want) || !bytes.Equal(content(path), before) || len(names(t, dir)) != 1 {
			t.Errorf("%v, %v", err, names(t, dir))
		}
	}
}

func content(path string) []byte {
	b, _ := os.ReadFile(path)
	return b
}

func clean(t *testing.T, dir string) {
	t.Helper()
	for _, name := range names(t, dir) {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// damageLeaf returns the file with a leaf whose keys are out of order.
func damageLeaf(t *testing.T, file []byte) []byte {
	t.Helper()
	b := bytes.Clone(file)
	for n := bytes.LastIndex(b, []byte("kind-2/")); n >= 0; n = bytes.LastIndex(b[:n], []byte("kind-2/")) {
		copy(b[n:], "kind-0/")
	}
	return b
}

func addBucket(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("other"))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
