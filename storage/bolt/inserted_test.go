package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"keymill/storage"
)

// strangeKeys are keys that no Store accepts, and bbolt does.
var strangeKeys = []string{
	"\x00", "\xff", "\x7f", "\xff\xff\xff\xff", "\n", "ring/\x00", "ring/\xff", "user/\xc3\xa9", "k00\x00", "k00 \xfe",
	strings.Repeat("k", storage.MaxKeyBytes+1), strings.Repeat("\xff", bbolt.MaxKeySize),
}

// insertBelow writes the file at path with bbolt, as any program can.
func insertBelow(t *testing.T, path string, insert func(tx *bbolt.Tx, records *bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return insert(tx, tx.Bucket([]byte(bucketName))) })
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// storeOf makes a store with records k00 to k29.
func storeOf(t *testing.T) string {
	t.Helper()
	path := filepath.Join(memoryDir(t), "keymill.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 30 {
		put(t, s, fmt.Sprintf("k%02d", n), strings.Repeat("v", 300))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRecordsThatNoStoreWritesAreNoDamageOfPages: the store opens, reads and writes beside them, its
// checks find nothing wrong with its pages, and a Scan shows them all.
func TestRecordsThatNoStoreWritesAreNoDamageOfPages(t *testing.T) {
	path := storeOf(t)
	insertBelow(t, path, func(_ *bbolt.Tx, records *bbolt.Bucket) error {
		for _, key := range strangeKeys {
			if err := records.Put([]byte(key), []byte("value of "+key)); err != nil {
				return err
			}
		}
		if err := records.Put(make([]byte, 1<<20), nil); !errors.Is(err, bolterrors.ErrKeyTooLarge) {
			t.Errorf("a key of 1 MiB: %v", err)
		}
		if err := records.Put([]byte(""), nil); !errors.Is(err, bolterrors.ErrKeyRequired) {
			t.Errorf("an empty key: %v", err)
		}
		return records.Put([]byte("long value"), bytes.Repeat([]byte("v"), 1<<20))
	})
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if err := errors.Join(s.Check(t.Context()), s.CheckUnused(t.Context())); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		var found []string
		if err := s.View(t.Context(), func(r storage.Reader) error {
			for e, err := range r.Scan("", "") {
				if err != nil {
					return err
				}
				if slices.Contains(strangeKeys, e.Key) && string(e.Value) == "value of "+e.Key {
					found = append(found, e.Key)
				}
			}
			v, err := r.Get("k29")
			if len(v) != 300 {
				t.Errorf("%s: k29 has %d bytes", when, len(v))
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if want := slices.Sorted(slices.Values(strangeKeys)); !slices.Equal(found, want) {
			t.Errorf("%s: found %q, want %q", when, found, want)
		}
	}
	check("as inserted")
	for n := range 29 {
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			seen := 0
			for e, err := range tx.Scan("k00", "k01") {
				if err != nil || e.Key == "k01" {
					return fmt.Errorf("%q, %w", e.Key, err)
				}
				seen++
			}
			if n == 0 && seen != 3 {
				t.Errorf("a transaction saw %d records", seen)
			}
			return errors.Join(tx.Delete(fmt.Sprintf("k%02d", n)), tx.Put(fmt.Sprintf("l%02d", n), bytes.Repeat([]byte("w"), 3000)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	check("after writes beside them")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := CheckFile(t.Context(), path, func(int) {}); err != nil {
		t.Errorf("the check of the pages: %v", err)
	}
}

// TestBucketsThatNoStoreWritesAreNamed: one beside that of the records is not read, so only CheckUnused says
// so. One among the records is damage of its page. Names are quoted, and bounded in length and number.
//
// I28.
func TestBucketsThatNoStoreWritesAreNamed(t *testing.T) {
	names := []string{"theirs", "\x00", "\xff\xff", bucketName + "2", strings.Repeat("long", 1000)}
	for _, name := range names {
		path := storeOf(t)
		insertBelow(t, path, func(tx *bbolt.Tx, _ *bbolt.Bucket) error {
			b, err := tx.CreateBucket([]byte(name))
			for n := 0; err == nil && n < 200; n++ {
				err = b.Put(fmt.Appendf(nil, "%04d", n), make([]byte, 400))
			}
			return err
		})
		s, err := Open(path, Options{})
		if err != nil {
			t.Errorf("%.20q: %v", name, err)
			continue
		}
		if err := s.Check(t.Context()); err != nil {
			t.Errorf("%.20q: the check of the records: %v", name, err)
		}
		put(t, s, "k30", "")
		err = s.CheckUnused(t.Context())
		if text := fmt.Sprint(err); !errors.Is(err, storage.ErrBroken) || !strings.Contains(text, storage.QuoteKey(name)) || strings.ContainsAny(text, "\n\x00") || len(text) > 300 {
			t.Errorf("%.20q: %v", name, err)
		}
		if s.Status().Failed != nil {
			t.Errorf("%.20q: the store failed", name)
		}
		s.Close()
		if err := CheckFile(t.Context(), path, func(int) {}); err != nil {
			t.Errorf("%.20q: the check of the pages: %v", name, err)
		}
	}
	for _, name := range append(names, "k", "k05x", "zz") {
		for _, entries := range []int{0, 1, 300} {
			path := storeOf(t)
			insertBelow(t, path, func(_ *bbolt.Tx, records *bbolt.Bucket) error {
				b, err := records.CreateBucket([]byte(name))
				for n := 0; err == nil && n < entries; n++ {
					err = b.Put(fmt.Appendf(nil, "%04d", n), make([]byte, 400))
				}
				return err
			})
			err := CheckFile(t.Context(), path, func(int) {})
			if text := fmt.Sprint(err); !errors.Is(err, storage.ErrBroken) || !strings.Contains(text, "the record "+storage.QuoteKey(name)+" is a bucket") || len(text) > 300 {
				t.Errorf("%.20q among the records, %d entries: %v", name, entries, err)
			}
		}
	}
}
