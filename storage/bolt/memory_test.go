package bolt

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"keymill/storage"
)

func openHot(t testing.TB) *Store {
	s, err := Open(filepath.Join(t.TempDir(), "keymill.db"), Options{Hot: func(key string) bool { return strings.HasPrefix(key, "hot/") }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// putAll writes the same value under each key.
func putAll(t testing.TB, s *Store, value string, keys ...string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		for _, key := range keys {
			if err := tx.Put(key, []byte(value)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestAViewOfHotRecordsIsOfOneInstant, also if they change between its reads, and wherever the records are: in memory
// or not, read one by one or in a scan. It shows what was written before it began.
func TestAViewOfHotRecordsIsOfOneInstant(t *testing.T) {
	for _, keys := range [][2]string{{"hot/a", "hot/b"}, {"hot/a", "b"}, {"b", "hot/a"}, {"a", "b"}} {
		for _, scan := range []bool{false, true} {
			s := openHot(t)
			read := func(r storage.Reader, key string) string {
				v, err := r.Get(key)
				if scan && key == keys[1] {
					for e, scanErr := range r.Scan(key, key+"0") {
						v, err = e.Value, scanErr
					}
				}
				if err != nil {
					panic(err) // does not count if the run does not
				}
				return string(v)
			}
			for n := range 10 {
				putAll(t, s, fmt.Sprint("before ", n), keys[:]...)
				runs, got := 0, ""
				if err := s.View(t.Context(), func(r storage.Reader) error {
					first := read(r, keys[0])
					if runs++; runs == 1 && n%2 == 0 {
						putAll(t, s, fmt.Sprint("after ", n), keys[:]...)
					}
					got = first + ", " + read(r, keys[1])
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				before, after := fmt.Sprint("before ", n), fmt.Sprint("after ", n)
				if got != before+", "+before && (got != after+", "+after || n%2 == 1) {
					t.Errorf("%v, scan %v, round %d: the View shows %s", keys, scan, n, got)
				}
			}
		}
	}
}

// TestHotRecordsAreReadWithoutATransaction, with copies of the values. A deleted record is gone.
func TestHotRecordsAreReadWithoutATransaction(t *testing.T) {
	s := openHot(t)
	putAll(t, s, "one", "hot/a", "a")
	for n, key := range []string{"a", "hot/a", "hot/a", "a"} {
		if err := s.View(t.Context(), func(r storage.Reader) error {
			v, err := r.Get(key)
			if began, want := r.(*viewReader).tx != nil, n != 2; string(v) != "one" || began != want {
				t.Errorf("read %d of %s: %q, with a transaction: %v", n, key, v, began)
			}
			v[0] = 'X'
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete("hot/a") }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.View(t.Context(), func(r storage.Reader) error { _, err := r.Get("hot/a"); return err }); err != storage.ErrNotFound {
			t.Errorf("after it was deleted: %v", err)
		}
	}
	putAll(t, s, "two", "hot/a")
	if err := s.View(t.Context(), func(r storage.Reader) error {
		v, err := r.Get("hot/a")
		if string(v) != "two" || r.(*viewReader).tx != nil {
			t.Errorf("after it was written again: %q", v)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// TestAPanicOfARunThatCouldNotReadDoesNotCount: the View returns why it could not.
func TestAPanicOfARunThatCouldNotReadDoesNotCount(t *testing.T) {
	s := openHot(t)
	err := s.View(t.Context(), func(r storage.Reader) error {
		s.Close()
		if _, err := r.Get("a"); err != nil {
			panic(err)
		}
		return nil
	})
	if err != storage.ErrClosed {
		t.Errorf("the View returned %v", err)
	}
}

// TestTheMemoryIsBounded in bytes.
func TestTheMemoryIsBounded(t *testing.T) {
	m := memory{holds: func(string) bool { return true }, state: 1}
	for n := range 2000 {
		m.keep(fmt.Sprint("key", n%1500), make([]byte, 32<<10), nil, 1)
	}
	if m.bytes > memoryBytes || m.bytes < memoryBytes/2 || len(m.records) != m.bytes/(32<<10+memoryPerItem) {
		t.Errorf("%d records take up %d bytes", len(m.records), m.bytes)
	}
	var writes []storage.Write
	for key := range m.records {
		writes = append(writes, storage.Write{Key: key, Deleted: true})
	}
	m.commit(2, writes)
	m.keep("key", []byte("old"), nil, 1) // of an older state
	for key, value := range m.records {
		if value != nil {
			t.Errorf("after all were deleted there is %s", key)
		}
		m.remove(key)
	}
	if m.bytes != 0 {
		t.Errorf("no records take up %d bytes", m.bytes)
	}
}
