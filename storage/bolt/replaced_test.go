package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"

	"keymill/storage"
)

// TestAFaultOfTheMappingIsDamage: the file becomes shorter, as it does if the disk cannot read a
// page. The kernel sends a signal, which ends a process that does not expect it.
//
// I28.
func TestAFaultOfTheMappingIsDamage(t *testing.T) {
	page := int64(os.Getpagesize())
	for name, use := range map[string]func(s *Store) error{
		"View": func(s *Store) error {
			return s.View(t.Context(), func(r storage.Reader) error { return readTo(r, "~") })
		},
		"Check":  func(s *Store) error { return s.Check(t.Context()) },
		"Update": func(s *Store) error { return s.Update(t.Context(), putOne("0001")) },
	} {
		for _, length := range []int64{0, page, 2 * page} {
			path := deepStore(t)
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, length); err != nil {
				t.Fatal(err)
			}
			if err := use(s); !errors.Is(err, storage.ErrBroken) {
				t.Errorf("%s, %d bytes: %v", name, length, err)
			}
			// Without a meta page bbolt keeps its lock.
			if err := s.Close(); (err == nil) != (length == 2*page) {
				t.Errorf("%s, %d bytes: close: %v", name, length, err)
			}
		}
	}
}

// TestAnotherFileWhileServing: a store notices that its file was overwritten with a copy of another
// time. It keeps the file that it opened if another one takes its name.
//
// I28.
func TestAnotherFileWhileServing(t *testing.T) {
	view := func(s *Store) error {
		return s.View(t.Context(), func(r storage.Reader) error { _, err := r.Get("second"); return err })
	}
	update := func(s *Store) error { return s.Update(t.Context(), putOne("third")) }
	replace := func(path string, b []byte) error {
		return errors.Join(os.WriteFile(path+".copy", b, 0o600), os.Rename(path+".copy", path))
	}
	overwrite := func(path string, b []byte) error { return os.WriteFile(path, b, 0o600) }
	for _, tt := range []struct {
		name    string
		change  func(path string, copied []byte) error
		older   bool // the copy is
		noticed bool
	}{
		{"overwritten with an older copy", overwrite, true, true},
		{"overwritten with a newer copy", overwrite, false, true},
		{"replaced by an older copy", replace, true, false},
		{"replaced by a newer copy", replace, false, false},
	} {
		for name, use := range map[string]func(s *Store) error{"View": view, "Update": update} {
			path := deepStore(t)
			oldest, _ := readStore(t, path)
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "second", "")
			copied := oldest
			if !tt.older {
				copied = laterCopy(t, path)
			}
			if err := tt.change(path, copied); err != nil {
				t.Fatal(err)
			}
			if err := use(s); errors.Is(err, storage.ErrBroken) != tt.noticed || errors.Is(err, storage.ErrUnknownOutcome) || !tt.noticed && err != nil {
				t.Errorf("%s, %s: %v", tt.name, name, err)
			}
			s.Close()
		}
	}
}

// laterCopy returns a copy of the file at path with two transactions more.
func laterCopy(t *testing.T, path string) []byte {
	t.Helper()
	now, _ := readStore(t, path)
	beside := filepath.Join(memoryDir(t), "copy")
	if err := os.WriteFile(beside, now, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(beside, Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "later", "1")
	put(t, s, "later", "2")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	later, _ := readStore(t, beside)
	return later
}

// TestLostMetaPagesWhileServingAreDamage: bbolt would panic without both. Without the newer one it
// would show an older state, and would commit the next change on top of that. A newer one, which
// another program wrote, would show what this store never synced. No use writes to the file.
//
// I28.
func TestLostMetaPagesWhileServingAreDamage(t *testing.T) {
	page := os.Getpagesize()
	whole, _ := readStore(t, deepStore(t))
	for name, use := range map[string]func(s *Store) error{
		"View":   func(s *Store) error { return s.View(t.Context(), func(storage.Reader) error { return nil }) },
		"Check":  func(s *Store) error { return s.Check(t.Context()) },
		"Update": func(s *Store) error { return s.Update(t.Context(), putOne("0001")) },
		"an Update that only reads": func(s *Store) error {
			return s.Update(t.Context(), func(tx storage.Tx) error { _, err := tx.Get("0001"); return err })
		},
	} {
		for _, tt := range []struct {
			name   string
			change func(b []byte, newest fileMeta)
			closes bool // otherwise bbolt keeps its lock
		}{
			{"both are lost", func(b []byte, _ fileMeta) { clear(b[:2*page]) }, false},
			{"the newer is lost", func(b []byte, m fileMeta) { clear(b[int(m.txid%2)*page:][:page]) }, true},
			{"the newer is the older", func(b []byte, m fileMeta) { setTransaction(b, m, m.txid-2) }, true},
			{"the older is a newer", func(b []byte, m fileMeta) { setTransaction(b, m, m.txid+1) }, true},
			{"the newer is one of a later time", func(b []byte, m fileMeta) { setTransaction(b, m, m.txid+2) }, true},
		} {
			for _, wrote := range []bool{false, true} {
				path := filepath.Join(memoryDir(t), "keymill.db")
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				s, err := Open(path, Options{})
				if err != nil {
					t.Fatal(err)
				}
				if wrote {
					put(t, s, "0000", "")
				}
				before, m := readStore(t, path)
				after := bytes.Clone(before)
				tt.change(after, m)
				write(t, path, before, after)
				if err := use(s); !errors.Is(err, storage.ErrBroken) || errors.Is(err, storage.ErrUnknownOutcome) {
					t.Errorf("%s, %s, wrote %v: %v", name, tt.name, wrote, err)
				}
				if err := s.Status().Failed; !errors.Is(err, storage.ErrBroken) {
					t.Errorf("%s, %s, wrote %v: the store goes on: %v", name, tt.name, wrote, err)
				}
				if err := s.Close(); tt.closes != (err == nil) {
					t.Errorf("%s, %s, wrote %v: close: %v", name, tt.name, wrote, err)
				}
				if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, after) {
					t.Errorf("%s, %s, wrote %v: the file was written, %v", name, tt.name, wrote, err)
				}
			}
		}
	}
}

// setTransaction gives a meta page another transaction: the newest one, or the one beside it if
// the parity of txid is the other's.
func setTransaction(b []byte, newest fileMeta, txid uint64) {
	page := int(newest.pageSize)
	from, to := b[int(newest.txid%2)*page:][:page], b[int(txid%2)*page:][:page]
	copy(to[pageHeaderBytes:], from[pageHeaderBytes:])
	meta := to[pageHeaderBytes:][:metaBytes]
	binary.NativeEndian.PutUint64(meta[48:], txid)
	sum := fnv.New64a()
	sum.Write(meta[:metaBytes-8])
	binary.NativeEndian.PutUint64(meta[56:], sum.Sum64())
}
