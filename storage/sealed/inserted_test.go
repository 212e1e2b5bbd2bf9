package sealed

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"keymill/storage"
	"keymill/storage/bolt"
)

// withInserted closes base, puts records of any keys into its file with bbolt, and opens it again.
func withInserted(t *testing.T, base storage.Store, dir string, keys ...string) storage.Store {
	t.Helper()
	path := filepath.Join(dir, "keymill.db")
	if err := base.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, key := range keys {
			if err := tx.Bucket([]byte("keymill")).Put([]byte(key), []byte("inserted by another program")); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// createIn is create in a directory.
func createIn(t *testing.T, dir string, records ...string) storage.Store {
	t.Helper()
	base := openBase(t, dir)
	if err := base.Update(t.Context(), func(tx storage.Tx) error {
		return Create(tx, testKeys, func(tx storage.Tx) error { return putAll(tx, records) })
	}); err != nil {
		t.Fatal(err)
	}
	return base
}

// TestAnInsertedRecordIsNamedWhateverItsKey below each prefix that the manifest covers: the prefix itself, twice, keys
// that are not ASCII, and long ones.
//
// I24.
func TestAnInsertedRecordIsNamedWhateverItsKey(t *testing.T) {
	for _, prefix := range coveredPrefixes {
		for _, rest := range []string{"", prefix, "\x00", "\x1f", "\x7f", "\x80", "\xff", "\xff\xff\xff", "\xc3\xa9", strings.Repeat("a", 1000)} {
			dir := t.TempDir()
			base := createIn(t, dir, append(administrators, others...)...)
			s := open(t, withInserted(t, base, dir, prefix+rest), testKeys)
			_, below := s.ReadBelow(t.Context(), prefix)
			for what, err := range map[string]error{"all": s.CheckManifest(t.Context()), "below": below} {
				text := fmt.Sprint(err)
				if !errors.Is(err, storage.ErrForged) || !strings.HasPrefix(text, "record "+storage.KeyText(prefix+rest)+" is damaged") || strings.ContainsAny(text, "\x00\x7f\n") || strings.IndexByte(text, 0xff) >= 0 || len(text) > 400 {
					t.Errorf("%.20q, %s: %v", prefix+rest, what, err)
				}
			}
		}
	}
	dir := t.TempDir()
	base := createIn(t, dir, append(administrators, others...)...)
	var pages []string // more than one View, with a strange key at each end
	for n := range 2 * entriesPerView {
		pages = append(pages, fmt.Sprintf("client/\xff%04d", n))
	}
	s := open(t, withInserted(t, base, dir, append(pages, "epoch\x00", "epoch\xff", "clien", "\xff")...), testKeys)
	err := s.CheckManifest(t.Context())
	if n := strings.Count(fmt.Sprint(err), "record \"client/\\xff"); n != maxFindings {
		t.Errorf("%d findings: %v", n, err)
	}
	if n := len(s.Damaged()); n != maxDamagedKeys {
		t.Errorf("it remembers %d damaged records", n)
	}
}

// TestInsertedRecordsDoNotStopRetag, and leave a cursor that can be read: it is text.
//
// I26.
func TestInsertedRecordsDoNotStopRetag(t *testing.T) {
	for _, prefix := range []string{"family/\xff", "a\x80", "\x01", "user/7\x00", "family/0000\xff", "zz\xfe"} {
		dir := t.TempDir()
		base := createIn(t, dir, append(append(administrators, others...), "private/k", "1", "family/00001", "1", "zzz", "1")...)
		change(t, base)
		var inserted []string
		for n := range 2*entriesPerView + 1 {
			inserted = append(inserted, fmt.Sprintf("%s%06d", prefix, n))
		}
		base = withInserted(t, base, dir, inserted...)
		stop := errors.New("stop")
		for n := 0; ; n++ {
			s := open(t, base, nextKeys) // as after a crash
			if err := s.CheckManifest(t.Context()); err != nil {
				t.Fatalf("%q after %d interruptions: %v", prefix, n, err)
			}
			err := retagOnce(t, s, stop)
			if err == nil {
				break
			}
			if !errors.Is(err, stop) || n > 100 {
				t.Fatalf("%q after %d interruptions: %v", prefix, n, err)
			}
		}
		s := open(t, base, Keys{Database: "db", Current: nextKeys.Current})
		for n := 0; n < len(administrators); n += 2 {
			if v, err := get(t, s, administrators[n]); v != "1" || err != nil {
				t.Errorf("%q: %s is %q, %v", prefix, administrators[n], v, err)
			}
		}
		for _, key := range []string{"user/7", "family/f", "family/00001", "zzz", "private/k"} {
			if v, err := get(t, s, key); v != "1" || err != nil {
				t.Errorf("%q: %s is %q, %v", prefix, key, v, err)
			}
		}
		if err := s.View(t.Context(), func(r storage.Reader) error {
			m, err := r.(*reader).readRoot()
			if err == nil && m.Retagged != retagEnd {
				t.Errorf("%q: the cursor is %q", prefix, m.Retagged)
			}
			return err
		}); err != nil {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

// TestAValueOfAnyLengthIsForged, and exceeds no limit of the transaction that reads it.
func TestAValueOfAnyLengthIsForged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keymill.db")
	if err := createIn(t, dir, append(administrators, others...)...).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("keymill")).Put([]byte("user/7"), make([]byte, 2*storage.MaxUpdateBytes))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, openBase(t, dir), testKeys)
	for what, read := range map[string]func(r storage.Reader) error{
		"Get":    func(r storage.Reader) error { _, err := r.Get("user/7"); return err },
		"GetAll": func(r storage.Reader) error { _, err := r.GetAll("epoch", "user/7"); return err },
		"Scan": func(r storage.Reader) (found error) {
			for _, err := range r.Scan("", "") {
				found = errors.Join(found, err)
			}
			return found
		},
	} {
		if err := s.View(t.Context(), read); !errors.Is(err, storage.ErrForged) {
			t.Errorf("%s in a View: %v", what, err)
		}
		if err := s.Update(t.Context(), func(tx storage.Tx) error { return read(tx) }); !errors.Is(err, storage.ErrForged) || errors.Is(err, storage.ErrLimit) {
			t.Errorf("%s in an Update: %v", what, err)
		}
	}
}
