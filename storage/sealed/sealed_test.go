package sealed

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

var testKeys = Keys{Database: "db", Current: Generation{1, [32]byte{1, 2, 3}}}

func openBase(t testing.TB, dir string) storage.Store {
	t.Helper()
	base, err := bolt.Open(filepath.Join(dir, "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	return base
}

// open returns a Store over base.
func open(t testing.TB, base storage.Store, keys Keys) *Store {
	t.Helper()
	s, err := New(t.Context(), storagetest.RerunningIfAsked(base), keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// create makes a store with the records, which are pairs of key and value.
func create(t testing.TB, records ...string) (base storage.Store, s *Store) {
	t.Helper()
	base = openBase(t, t.TempDir())
	if err := base.Update(t.Context(), func(tx storage.Tx) error {
		return Create(tx, testKeys, func(tx storage.Tx) error { return putAll(tx, records) })
	}); err != nil {
		t.Fatal(err)
	}
	return base, open(t, base, testKeys)
}

func putAll(tx storage.Tx, records []string) error {
	for n := 0; n < len(records); n += 2 {
		if err := tx.Put(records[n], []byte(records[n+1])); err != nil {
			return err
		}
	}
	return nil
}

func put(t testing.TB, s storage.Store, records ...string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return putAll(tx, records) }); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, s storage.Store, key string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(key) }); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s storage.Store, key string) (value string, err error) {
	t.Helper()
	err = s.View(t.Context(), func(r storage.Reader) error {
		b, err := r.Get(key)
		value = string(b)
		return err
	})
	return value, err
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Suite{Open: func(t *testing.T, dir string) storage.Store {
		return open(t, openBase(t, dir), testKeys)
	}})
}

func TestConformanceWithReruns(t *testing.T) {
	storagetest.Run(t, storagetest.Suite{Open: func(t *testing.T, dir string) storage.Store {
		return open(t, storagetest.Rerunning(openBase(t, dir)), testKeys)
	}})
}

// TestValuesOfCallersHaveTheLimitOfTheContract: the bytes that a store allows for the tag are not
// for callers.
func TestValuesOfCallersHaveTheLimitOfTheContract(t *testing.T) {
	_, s := create(t)
	for n, want := range map[int]error{storage.MaxValueBytes: nil, storage.MaxValueBytes + 1: storage.ErrLimit} {
		err := s.Update(t.Context(), func(tx storage.Tx) error {
			tx.Put("a", make([]byte, n)) // the limit fails the Update, also if the error is ignored
			return nil
		})
		if !errors.Is(err, want) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestARecordThatChangedIsForged: in any bit, in its length, its place, its database or its data key.
//
// I23.
func TestARecordThatChangedIsForged(t *testing.T) {
	base, s := create(t, "user/7", "alice", "user/8", "bob")
	stored, err := get(t, base, "user/7")
	if err != nil {
		t.Fatal(err)
	}
	other, _ := get(t, base, "user/8")
	forged := map[string]string{
		"another record": other, "empty": "", "only the value": "alice", "shorter": stored[1:], "cut": stored[:len(stored)-1],
		"longer": stored + "\x00", "a byte before": "x" + stored,
	}
	for bit := range 8 * len(stored) {
		b := []byte(stored)
		b[bit/8] ^= 1 << (bit % 8)
		forged[fmt.Sprint("bit ", bit)] = string(b)
	}
	for what, value := range forged {
		put(t, base, "user/7", value)
		if got, err := get(t, s, "user/7"); !errors.Is(err, storage.ErrForged) || got != "" {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
	put(t, base, "user/7", stored)
	if got, err := get(t, s, "user/7"); got != "alice" || err != nil {
		t.Errorf("as it was: got %q, %v", got, err)
	}
	for what, keys := range map[string]Keys{
		"another database":   {Database: "other", Current: testKeys.Current},
		"another data key":   {Database: "db", Current: Generation{1, [32]byte{9}}},
		"another generation": {Database: "db", Current: Generation{2, testKeys.Current.DataKey}},
		"257 generations on": {Database: "db", Current: Generation{257, testKeys.Current.DataKey}},
	} {
		if _, err := get(t, open(t, base, keys), "user/7"); !errors.Is(err, storage.ErrForged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestEveryWayOfReadingChecks: Get, GetAll and Scan, in a View and in an Update. A Scan names the
// damaged record and goes on.
func TestEveryWayOfReadingChecks(t *testing.T) {
	base, s := create(t, "a", "1", "b", "2", "c", "3")
	put(t, base, "b", "forged")
	check := func(r storage.Reader) error {
		var damage *storage.DamageError
		if _, err := r.Get("b"); !errors.As(err, &damage) || damage.Key != "b" {
			t.Errorf("get: %v", err)
		}
		if _, err := r.GetAll("a", "b"); !errors.Is(err, storage.ErrForged) {
			t.Errorf("get all: %v", err)
		}
		text := ""
		for e, err := range r.Scan("", "~") {
			if e.Key == rootKey {
				continue
			}
			text += fmt.Sprintf("%s=%s %t ", e.Key, e.Value, errors.Is(err, storage.ErrForged))
		}
		if text != "a=1 false b= true c=3 false " {
			t.Errorf("scan: %s", text)
		}
		return nil
	}
	if err := errors.Join(s.View(t.Context(), check), s.Update(t.Context(), func(tx storage.Tx) error { return check(tx) })); err != nil {
		t.Fatal(err)
	}
	if damaged := s.Damaged(); len(damaged) != 1 || damaged[0].Key != "b" || !errors.Is(damaged[0], storage.ErrForged) {
		t.Errorf("damaged: %v", damaged)
	}
	put(t, s, "b", "2")
	get(t, s, "b")
	if damaged := s.Damaged(); len(damaged) != 0 {
		t.Errorf("damaged after it was written again: %v", damaged)
	}
}

// TestDamageOfOneKindDoesNotHideAnother, however much of it there is, and takes a bounded memory.
func TestDamageOfOneKindDoesNotHideAnother(t *testing.T) {
	_, s := create(t)
	for n := range 2 * maxDamagedKeys {
		s.damage.add(&storage.DamageError{Key: fmt.Sprintf("audit/log/%d", n), Err: storage.ErrForged})
	}
	for _, key := range []string{"clock", "ring/EdDSA", "epoch"} {
		s.damage.add(&storage.DamageError{Key: key, Err: storage.ErrForged})
	}
	damaged := s.Damaged()
	if len(damaged) != maxDamagedKeys+3 || damaged[maxDamagedKeys].Key != "clock" || damaged[maxDamagedKeys+2].Key != "ring/EdDSA" {
		t.Errorf("%d are remembered, the last is %v", len(damaged), damaged[len(damaged)-1])
	}
}

// TestNoOneWritesMetaKeyringOrManifest through the wrapped store.
func TestNoOneWritesMetaKeyringOrManifest(t *testing.T) {
	base, s := create(t)
	put(t, base, "meta", "m", "keyring", "k")
	for _, key := range []string{"meta", "keyring", rootKey, pageKey("00")} {
		for what, fn := range map[string]func(storage.Tx) error{
			"put":    func(tx storage.Tx) error { tx.Put(key, nil); return nil },
			"delete": func(tx storage.Tx) error { tx.Delete(key); return nil },
		} {
			if err := s.Update(t.Context(), fn); !errors.Is(err, errOwnRecord) {
				t.Errorf("%s %s: %v", what, key, err)
			}
		}
	}
	if got, err := get(t, s, "meta"); got != "m" || err != nil {
		t.Errorf("meta: %q, %v", got, err)
	}
}

// BenchmarkTag is what one read costs more: a record of a session has 160 bytes.
func BenchmarkTag(b *testing.B) {
	g, err := newTagger("db", testKeys.Current)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{0, 160, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var stored []byte
			g.seal("family/0123456789abcdef0123456789abcdef", make([]byte, n), func(v []byte) error { stored = append(stored, v...); return nil })
			b.ReportAllocs()
			for b.Loop() {
				if _, _, ok := g.check("family/0123456789abcdef0123456789abcdef", stored); !ok {
					b.Fatal("the tag does not fit")
				}
			}
		})
	}
}
