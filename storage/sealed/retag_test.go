package sealed

import (
	"errors"
	"fmt"
	"testing"

	"keymill/storage"
)

var nextKeys = Keys{Database: "db", Current: Generation{2, [32]byte{4, 5, 6}}, Previous: &testKeys.Current}

// change makes the data key of nextKeys the current one.
func change(t *testing.T, base storage.Store) {
	t.Helper()
	if err := base.Update(t.Context(), func(tx storage.Tx) error {
		return Change(tx, nextKeys, func(tx storage.Tx) error {
			for _, key := range []string{"ring/EdDSA", "refresh/secret/1", "verifier/secret/1", "private/k"} {
				v, err := tx.Get(key)
				if err != nil {
					return err
				}
				if err := tx.Put(key, v); err != nil {
					return err
				}
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
}

// createMany makes a store with n sessions besides the records of administrators.
func createMany(t *testing.T, n int) (storage.Store, *Store) {
	t.Helper()
	base, s := create(t, append(append(administrators, others...), "private/k", "1")...)
	for i := 0; i < n; i += 50 {
		var records []string
		for k := i; k < min(n, i+50); k++ {
			records = append(records, fmt.Sprintf("family/%05d", k), "1")
		}
		put(t, s, records...)
	}
	return base, s
}

// generations counts the records by the generation of their tags.
func generations(t *testing.T, base storage.Store) (older, newer int) {
	t.Helper()
	old, _ := newTagger("db", testKeys.Current)
	current, _ := newTagger("db", nextKeys.Current)
	if err := base.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "\x7f") {
			if err != nil {
				return err
			}
			_, _, isOld := old.check(e.Key, e.Value)
			_, _, isNew := current.check(e.Key, e.Value)
			if isOld == isNew {
				t.Errorf("%s has no tag of one generation", e.Key)
			}
			if isOld {
				older++
			} else {
				newer++
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return older, newer
}

// TestRetagTagsEveryRecordAgain, and continues at its cursor after each transaction that a crash may
// have ended it at. Every record can be read at any time.
func TestRetagTagsEveryRecordAgain(t *testing.T) {
	base, _ := createMany(t, 1200)
	change(t, base)
	stop := errors.New("stop")
	interruptions := 0
	for {
		s := open(t, base, nextKeys) // as after a crash
		for _, key := range []string{"family/00000", "family/00600", "family/01199", "client/web", "user/7", "ring/EdDSA"} {
			if v, err := get(t, s, key); v != "1" || err != nil {
				t.Fatalf("%s after %d interruptions: %q, %v", key, interruptions, v, err)
			}
		}
		if err := s.CheckManifest(t.Context()); err != nil {
			t.Fatalf("after %d interruptions: %v", interruptions, err)
		}
		err := retagOnce(t, s, stop)
		if err == nil {
			s.Retagged()
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		interruptions++
	}
	older, newer := generations(t, base)
	if older != 0 || newer < 1200 || interruptions < 10 {
		t.Errorf("%d records of the older generation, %d of the newer, %d interruptions", older, newer, interruptions)
	}
	last := open(t, base, Keys{Database: "db", Current: nextKeys.Current})
	if err := last.CheckManifest(t.Context()); err != nil {
		t.Error(err)
	}
	put(t, last, "client/web", "2")
	if err := last.View(t.Context(), func(r storage.Reader) error {
		m, err := r.(*reader).readRoot()
		if m.Retagged != retagEnd {
			t.Errorf("the cursor is %q", m.Retagged)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// retagOnce stops Retag after one transaction with a panic, as a crash would.
func retagOnce(t *testing.T, s *Store, stop error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = p.(error)
		}
	}()
	return s.Retag(t.Context(), func(int, string) { panic(stop) })
}

// TestTheOlderKeyForgesOnlyAheadOfTheCursor: not a record that the change itself wrote, not one behind
// the cursor, and none after the end.
//
// I26.
func TestTheOlderKeyForgesOnlyAheadOfTheCursor(t *testing.T) {
	base, older := createMany(t, 300)
	old := map[string]string{}
	for _, key := range []string{"ring/EdDSA", "private/k", "refresh/secret/1", "verifier/secret/1", rootKey, "audience/orders", "family/00299"} {
		old[key], _ = get(t, base, key)
	}
	change(t, base)
	s := open(t, base, nextKeys)
	putBack := func(key string) (err error) {
		now, _ := get(t, base, key)
		put(t, base, key, old[key])
		_, err = get(t, s, key)
		put(t, base, key, now)
		return err
	}
	for _, key := range []string{"ring/EdDSA", "private/k", "refresh/secret/1", "verifier/secret/1", rootKey} {
		if err := putBack(key); !errors.Is(err, storage.ErrForged) {
			t.Errorf("%s of the older key: %v", key, err)
		}
	}
	if err := putBack("family/00299"); err != nil {
		t.Errorf("ahead of the cursor: %v", err)
	}
	stop := errors.New("stop")
	if err := retagOnce(t, s, stop); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := putBack("audience/orders"); !errors.Is(err, storage.ErrForged) {
		t.Errorf("behind the cursor: %v", err)
	}
	if err := s.Retag(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := putBack("family/00299"); !errors.Is(err, storage.ErrForged) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := get(t, older, "family/00299"); !errors.Is(err, storage.ErrForged) {
		t.Errorf("read with the older key: %v", err)
	}
}

// TestRetagRunsBesideOtherTransactions, which may write, add and remove the records that it reads.
func TestRetagRunsBesideOtherTransactions(t *testing.T) {
	base, _ := createMany(t, 500)
	change(t, base)
	s := open(t, base, nextKeys)
	n := 0
	if err := s.Retag(t.Context(), func(int, string) {
		put(t, s, fmt.Sprintf("family/%05d", 499-n), "2", fmt.Sprintf("client/c%d", n), "1", fmt.Sprintf("a/%d", n), "1")
		remove(t, s, fmt.Sprintf("family/%05d", 400-n))
		n++
	}); err != nil {
		t.Fatal(err)
	}
	older, newer := generations(t, base)
	if older != 0 || n < 5 {
		t.Errorf("%d older, %d newer records after %d transactions", older, newer, n)
	}
	if err := s.CheckManifest(t.Context()); err != nil {
		t.Error(err)
	}
	if v, err := get(t, s, "family/00499"); v != "2" || err != nil {
		t.Errorf("a record written in between: %q, %v", v, err)
	}
}

// TestRetagLeavesADamagedRecordAsItIs, and does not stop at it.
func TestRetagLeavesADamagedRecordAsItIs(t *testing.T) {
	base, _ := createMany(t, 100)
	change(t, base)
	put(t, base, "family/00050", "forged")
	s := open(t, base, nextKeys)
	if err := s.Retag(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.Retagged()
	if v, _ := get(t, base, "family/00050"); v != "forged" {
		t.Errorf("the damaged record is now %q", v)
	}
	if v, err := get(t, s, "family/00051"); v != "1" || err != nil {
		t.Errorf("the record after it: %q, %v", v, err)
	}
}
