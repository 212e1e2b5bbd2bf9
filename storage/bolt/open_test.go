package bolt

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// filledStore returns the bytes of a store of some dozen pages.
func filledStore(t *testing.T) []byte {
	t.Helper()
	b := openTest(t)
	for i := range 30 {
		if err := b.Update(t.Context(), func(tx storage.Tx) error {
			return tx.Put(fmt.Sprintf("k%02d", i), bytes.Repeat([]byte{byte(i)}, 1500))
		}); err != nil {
			t.Fatal(err)
		}
	}
	var buf bytes.Buffer
	if err := b.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(&buf)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// foreign returns the bytes of a bbolt file of another program.
func foreign(t *testing.T, o *bbolt.Options) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "foreign.db")
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// overwrite returns a copy of b with other bytes from at on.
func overwrite(b []byte, at int, with []byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return b
}

// TestADamagedFileIsRefusedAndNotChanged: the error is one clear line, which says what to do.
//
// I28.
func TestADamagedFileIsRefusedAndNotChanged(t *testing.T) {
	whole := filledStore(t)
	page := os.Getpagesize()
	m, err := newestMeta(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"empty":              {},
		"text":               []byte("this is not a store\n"),
		"zeros":              make([]byte, 1<<20),
		"garbage":            bytes.Repeat([]byte("garbage!"), 1<<17),
		"foreign":            foreign(t, nil),
		"foreign, free list": foreign(t, &bbolt.Options{NoFreelistSync: true}),
		"both metas gone":    overwrite(whole, 0, make([]byte, 2*page)),
		"free list gone":     overwrite(whole, int(m.freelist)*page, make([]byte, page)),
		"root page gone":     overwrite(whole, int(m.root)*page, make([]byte, page)),
		"a page missing":     whole[:len(whole)-page],
		"a byte missing":     whole[:len(whole)-1],
	}
	for cut := 1; cut < len(whole); cut += len(whole)/40 + 7 {
		files[fmt.Sprintf("cut at %d", cut)] = whole[:cut]
	}
	for name, content := range files {
		path := filepath.Join(t.TempDir(), "keymill.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time checks that no lock is left
			b, err := Open(path, Options{})
			if err == nil {
				b.Close()
				t.Errorf("%s: Open succeeded", name)
				break
			}
			if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, path) || strings.Contains(s, "in use") || len(s) > 300 {
				t.Errorf("%s: the error is not one line that names the file: %q", name, s)
			}
			if s := err.Error(); !strings.Contains(s, "restore a ") && !strings.Contains(s, "choose another data directory") {
				t.Errorf("%s: the error does not say what to do: %q", name, s)
			}
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
		if names, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(names) != 1 {
			t.Errorf("%s: other files are left: %v", name, names)
		}
	}
}

// TestCheckFindsDamagedPages: Open succeeds, because only reading everything finds the
// damage, and Check reports it and does not crash the process.
//
// I28.
func TestCheckFindsDamagedPages(t *testing.T) {
	whole := filledStore(t)
	page := os.Getpagesize()
	opened := 0
	for n := 2; n < len(whole)/page; n++ {
		for name, with := range map[string][]byte{
			"zeros":         make([]byte, page),
			"ones":          bytes.Repeat([]byte{0xff}, page),
			"lost elements": bytes.Repeat([]byte{0xff}, page-16), // after the page header
		} {
			at := n * page
			if name == "lost elements" {
				at += 16
			}
			path := filepath.Join(t.TempDir(), "keymill.db")
			if err := os.WriteFile(path, overwrite(whole, at, with), 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := Open(path, Options{})
			if err != nil {
				continue
			}
			opened++
			used := false
			b.db.View(func(tx *bbolt.Tx) error {
				// Tx.Page looks in the free list, not at the bytes of the page.
				info, err := tx.Page(n)
				used = err == nil && info.Type != "free"
				return err
			})
			if err := b.Check(t.Context()); used && err == nil && !renamed(t, b) {
				t.Errorf("page %d, %s: Check did not find the damage", n, name)
			}
			b.Close()
		}
	}
	if opened == 0 {
		t.Error("no damaged file opened, so this test checks nothing")
	}
}

// renamed reports whether the damage gave a record a key that no Store writes: then its tag does not fit.
func renamed(t *testing.T, s *Store) (found bool) {
	t.Helper()
	if err := s.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			found = found || storage.CheckKey(e.Key) != nil
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	return found
}

// TestANewStoreIsComplete: its mode is 0600, and no temporary file is left.
func TestANewStoreIsComplete(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(filepath.Join(dir, "keymill.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("directory holds %v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if s := b.Status(); s.Failed != nil || s.Bytes == 0 {
		t.Errorf("status is %+v", s)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("check of a new store: %v", err)
	}
}

// TestAPathWhereNoFileCanBeIsRefused with one line that names the path.
func TestAPathWhereNoFileCanBeIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "absent", "keymill.db"), "/proc/keymill.db"} {
		b, err := Open(path, Options{})
		if err == nil {
			b.Close()
			t.Errorf("%s: Open succeeded", path)
			continue
		}
		if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, path) {
			t.Errorf("%s: the error is not one line that names the file: %q", path, s)
		}
	}
}

// FuzzMeta: a file is refused, or its meta page refers only to pages that exist.
func FuzzMeta(f *testing.F) {
	page := os.Getpagesize()
	path := filepath.Join(f.TempDir(), "keymill.db")
	b, err := Open(path, Options{})
	if err != nil {
		f.Fatal(err)
	}
	b.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	whole = whole[:8*page]
	f.Add(whole)
	f.Add(overwrite(whole, 0, make([]byte, page)))
	f.Add(overwrite(whole, page, make([]byte, page)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := newestMeta(bytes.NewReader(content))
		if err != nil || m.check(int64(len(content))) != nil {
			return
		}
		if m.root*m.pageSize >= uint64(len(content)) || m.freelist*m.pageSize >= uint64(len(content)) {
			t.Errorf("%+v was accepted for a file of %d bytes", m, len(content))
		}
	})
}
