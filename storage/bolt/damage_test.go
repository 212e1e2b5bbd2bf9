package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keymill/storage"
)

// deepStore returns the path of a store whose root has branches below it.
func deepStore(t *testing.T) string {
	t.Helper()
	path := filepath.Join(memoryDir(t), "keymill.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("k", 180)
	for i := 0; i < 1500; i += 50 {
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			for j := range 50 {
				if err := tx.Put(fmt.Sprintf("%04d%s", i+j, long), bytes.Repeat([]byte("v"), 600)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	trim(t, path)
	return path
}

// trim cuts off what no page uses: bbolt grows a file by megabytes.
func trim(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := newestMeta(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(m.pages * m.pageSize)); err != nil {
		t.Fatal(err)
	}
}

// readStore returns the bytes of a file and its newest meta page.
func readStore(t *testing.T, path string) ([]byte, fileMeta) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newestMeta(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	return whole, m
}

// branches returns the branches of the tree of records, the root first.
func branches(t *testing.T, whole []byte) []node {
	t.Helper()
	m, err := newestMeta(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	p := pages{bytes: whole[:m.pages*m.pageSize], size: int(m.pageSize)}
	tr, err := openBucket(p, m.root)
	if err != nil {
		t.Fatal(err)
	}
	var list []node
	var add func(n node)
	add = func(n node) {
		if n.leaf {
			return
		}
		list = append(list, n)
		for i := range n.count {
			child, err := tr.node(n.child(i))
			if err != nil {
				t.Fatal(err)
			}
			add(child)
		}
	}
	root, err := tr.top()
	if err != nil {
		t.Fatal(err)
	}
	add(root)
	if len(list) < 3 {
		t.Fatalf("the tree has %d branches only", len(list))
	}
	return list
}

// A pageDamage changes one page, to which branches refer.
type pageDamage struct {
	name   string
	change func(root, branch node) // it may change both

	harmless bool // for the search of a record, which reads other bytes
}

func setChild(n node, i int, to uint64) {
	binary.NativeEndian.PutUint64(n.page[pageHeaderBytes+i*elementBytes+8:], to)
}

func (n node) id() uint64 { return binary.NativeEndian.Uint64(n.page) }

func pageDamages() []pageDamage {
	return []pageDamage{
		{"a branch is its own child", func(root, b node) { setChild(b, 0, b.id()) }, false},
		{"a branch has the root as its child", func(root, b node) { setChild(b, 0, root.id()) }, false},
		{"the root is its own child", func(root, b node) { setChild(root, 0, root.id()) }, false},
		{"two children are the same", func(root, b node) { setChild(b, 0, b.child(1)) }, false},
		{"two children have changed places", func(root, b node) {
			first, second := b.child(0), b.child(1)
			setChild(b, 0, second)
			setChild(b, 1, first)
		}, false},
		{"a child far outside", func(root, b node) { setChild(b, 0, 1<<40) }, false},
		{"a child at the end of the numbers", func(root, b node) { setChild(b, 0, 1<<64-1) }, false},
		{"a child is a meta page", func(root, b node) { setChild(b, 0, 1) }, false},
		{"no child", func(root, b node) { binary.NativeEndian.PutUint16(b.page[10:], 0) }, false},
		{"65,535 children", func(root, b node) { binary.NativeEndian.PutUint16(b.page[10:], 1<<16-1) }, false},
		{"2^32 pages", func(root, b node) { binary.NativeEndian.PutUint32(b.page[12:], 1<<32-1) }, false},
		{"one page more", func(root, b node) { binary.NativeEndian.PutUint32(b.page[12:], 1) }, true},
		{"a leaf by its flags", func(root, b node) { binary.NativeEndian.PutUint16(b.page[8:], flagLeaf) }, false},
		{"no type", func(root, b node) { binary.NativeEndian.PutUint16(b.page[8:], 0) }, false},
		{"another number", func(root, b node) { binary.NativeEndian.PutUint64(b.page, b.id()+1) }, false},
		{"a key of 4 GB", func(root, b node) { binary.NativeEndian.PutUint32(b.page[pageHeaderBytes+4:], 1<<32-1) }, false},
		{"a key outside of the page", func(root, b node) { binary.NativeEndian.PutUint32(b.page[pageHeaderBytes:], 1<<31) }, false},
		{"a key that is greater than the next", func(root, b node) { b.key(0)[0] = '~' }, true},
		{"a page of zeros", func(root, b node) { clear(b.page) }, false},
		{"a page of ones", func(root, b node) {
			for i := range b.page {
				b.page[i] = 0xff
			}
		}, false},
	}
}

// TestADamagedBranchIsNotOpened: circles, which would fill bbolt's stack and end the process, and
// numbers that would make it allocate gigabytes.
//
// I28.
func TestADamagedBranchIsNotOpened(t *testing.T) {
	path := deepStore(t)
	whole, _ := readStore(t, path)
	for _, d := range pageDamages() {
		for i := range 2 {
			b := bytes.Clone(whole)
			list := branches(t, b)
			d.change(list[0], list[i]) // the root itself, and one below it
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			for name, open := range map[string]func() (*Store, error){
				"Open":         func() (*Store, error) { return Open(path, Options{}) },
				"OpenReadOnly": func() (*Store, error) { return OpenReadOnly(path) },
			} {
				s, err := open()
				if err == nil {
					s.Close()
				}
				if !errors.Is(err, storage.ErrBroken) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s, %s, branch %d: %v", name, d.name, i, err)
				}
			}
		}
	}
}

// TestDamageWhileServingEndsTheStore: the disk or another program changes pages of an open store.
// Reading and writing return storage.ErrBroken, and Failed is called, so that the process ends.
//
// I28.
func TestDamageWhileServingEndsTheStore(t *testing.T) {
	path := deepStore(t)
	whole, _ := readStore(t, path)
	first := strings.Repeat("k", 180)
	uses := map[string]func(s *Store) error{
		"Get": func(s *Store) error {
			return s.View(t.Context(), func(r storage.Reader) error { _, err := r.Get("0001" + first); return err })
		},
		"absent": func(s *Store) error {
			return s.View(t.Context(), func(r storage.Reader) error { _, err := r.Get("0001"); return err })
		},
		"GetAll": func(s *Store) error {
			return s.View(t.Context(), func(r storage.Reader) error { _, err := r.GetAll("0001"+first, "0002"+first); return err })
		},
		"Scan": func(s *Store) error {
			return s.View(t.Context(), func(r storage.Reader) error { return readTo(r, "~") })
		},
		"Get in an Update": func(s *Store) error {
			return s.Update(t.Context(), func(tx storage.Tx) error { _, err := tx.Get("0001" + first); return err })
		},
		"Scan in an Update": func(s *Store) error {
			return s.Update(t.Context(), func(tx storage.Tx) error { return readTo(tx, "0005") })
		},
		"an Update that ignores its error": func(s *Store) error {
			return s.Update(t.Context(), func(tx storage.Tx) error { tx.Get("0001" + first); return nil })
		},
		"Put": func(s *Store) error {
			return s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("0001"+first, nil) })
		},
		"Delete": func(s *Store) error {
			return s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete("0001" + first) })
		},
	}
	for _, d := range pageDamages() {
		for _, name := range slices.Sorted(maps.Keys(uses)) {
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			failures := make(chan error, 2)
			s, err := Open(path, Options{Failed: func(err error) { failures <- err }})
			if err != nil {
				t.Fatal(err)
			}
			b := bytes.Clone(whole)
			list := branches(t, b)
			d.change(list[0], list[1])
			write(t, path, whole, b)
			err = uses[name](s)
			if d.harmless && err == nil && (strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "an Update")) {
				s.Close()
				continue
			}
			if !errors.Is(err, storage.ErrBroken) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, %s: %v", d.name, name, err)
				s.Close()
				continue
			}
			if err := <-failures; !errors.Is(err, storage.ErrBroken) {
				t.Errorf("%s, %s: Failed was called with %v", d.name, name, err)
			}
			for what, err := range map[string]error{
				"View": s.View(t.Context(), func(storage.Reader) error { return nil }), "Update": s.Update(t.Context(), putOne("x")), "Status": s.Status().Failed,
			} {
				if !errors.Is(err, storage.ErrBroken) {
					t.Errorf("%s, %s: %s afterwards: %v", d.name, name, what, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s, %s: close: %v", d.name, name, err)
			}
		}
	}
}

func readTo(r storage.Reader, end string) error {
	for _, err := range r.Scan("", end) {
		if err != nil {
			return err
		}
	}
	return nil
}

// write changes a file in place where after differs from before.
func write(t *testing.T, path string, before, after []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range after {
		if before[i] != after[i] {
			if _, err := f.WriteAt(after[i:i+1], int64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestThePanicOfACallerIsItsOwn: it is raised in the caller and is no damage, also one within the loop of a Scan, and the store goes on.
func TestThePanicOfACallerIsItsOwn(t *testing.T) {
	s := openTest(t)
	put(t, s, "a", "1")
	mine := errors.New("mine")
	inLoop := func(r storage.Reader) error {
		for range r.Scan("a", "b") {
			panic(mine)
		}
		return nil
	}
	for name, use := range map[string]func(){
		"View":         func() { s.View(t.Context(), func(storage.Reader) error { panic(mine) }) },
		"Scan":         func() { s.View(t.Context(), inLoop) },
		"Scan, Update": func() { s.Update(t.Context(), func(tx storage.Tx) error { return inLoop(tx) }) },
		"Update":       func() { s.Update(t.Context(), func(storage.Tx) error { panic(mine) }) },
	} {
		func() {
			defer func() {
				err, _ := recover().(error)
				if !errors.Is(err, mine) {
					t.Errorf("%s: recovered %v", name, err)
				}
			}()
			use()
			t.Errorf("%s: no panic", name)
		}()
		put(t, s, "b", name)
	}
	if err := s.Status().Failed; err != nil {
		t.Error(err)
	}
}

// TestTheFreeListNamesNoPageInUse: a commit would overwrite the page.
func TestTheFreeListNamesNoPageInUse(t *testing.T) {
	path := deepStore(t)
	whole, m := readStore(t, path)
	list := branches(t, whole)
	at := int(m.freelist*m.pageSize) + pageHeaderBytes
	if binary.NativeEndian.Uint16(whole[at-6:]) == 0 {
		t.Fatal("the free list is empty, so this test checks nothing")
	}
	for name, id := range map[string]uint64{
		"the root": list[0].id(), "a branch": list[1].id(), "a leaf": list[1].child(0), "a meta page": 1, "itself": m.freelist,
		"a page outside": m.pages, "the greatest number": 1<<64 - 1,
	} {
		b := bytes.Clone(whole)
		binary.NativeEndian.PutUint64(b[at:], id)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(path, Options{}); !errors.Is(err, storage.ErrBroken) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

// TestOneDamagedMetaPage is refused if it may be the newer one.
func TestOneDamagedMetaPage(t *testing.T) {
	path := deepStore(t)
	whole, m := readStore(t, path)
	page := os.Getpagesize()
	newer, older := int(m.txid%2)*page, int((m.txid+1)%2)*page
	for _, tt := range []struct {
		name    string
		at      int
		length  int
		refused bool
	}{
		{"checksum of the newer", newer + pageHeaderBytes + 56, 1, true},
		{"transaction of the newer", newer + pageHeaderBytes + 48, 1, true},
		{"all of the newer", newer, page, true},
		{"checksum of the older", older + pageHeaderBytes + 56, 1, false},
		{"root of the older", older + pageHeaderBytes + 16, 1, false},
		{"transaction of the older", older + pageHeaderBytes + 48, 1, true},
		{"all of the older", older, page, true},
	} {
		b := bytes.Clone(whole)
		for i := range tt.length {
			b[tt.at+i] ^= 0x55
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{})
		if tt.refused != errors.Is(err, storage.ErrBroken) || !tt.refused && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil {
			s.Close()
		}
	}
}
