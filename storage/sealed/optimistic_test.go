package sealed

import (
	"errors"
	"sync/atomic"
	"testing"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
)

// onDatabase returns a store in a database, as its owner sees it, and how servers open it.
func onDatabase(t *testing.T) (*enginetest.Database, *shared) {
	db := enginetest.NewDatabase()
	node := func() storage.Store {
		s := optimistic.New(db.Open(enginetest.Faults{}), optimistic.Options{})
		t.Cleanup(func() { s.Close() })
		return s
	}
	return db, &shared{t, node(), node}
}

// TestAForgeryThatADiscardedRunSawIsNoDamage: the cache of a server has a record that was forged and that is whole
// again by now. The run that finds the forgery does not count, and neither does its error.
//
// I23.
func TestAForgeryThatADiscardedRunSawIsNoDamage(t *testing.T) {
	_, s := onDatabase(t)
	s.create("ring/EdDSA", "1", "user/7", "1")
	a, b := s.join(), s.join()
	whole := must(get(t, s.base, "user/7"))
	for range 3 {
		put(t, s.base, "user/7", "x"+whole[1:])
		if _, err := get(t, a, "user/7"); !errors.Is(err, storage.ErrForged) || len(a.Damaged()) != 1 {
			t.Fatalf("the forgery: %v, %v", err, a.Damaged())
		}
		put(t, s.base, "user/7", whole)
		put(t, b, "user/7", "2")
		var saw atomic.Bool
		if err := a.Update(t.Context(), func(tx storage.Tx) error {
			v, err := tx.Get("user/7")
			if errors.Is(err, storage.ErrForged) {
				saw.Store(true)
			}
			if err == nil {
				err = tx.Put("user/8", v)
			}
			return err
		}); err != nil {
			t.Errorf("an update that read the forgery first: %v", err)
		}
		if !saw.Load() {
			t.Error("no run saw the forgery, so this test checks nothing")
		}
		if d := a.Damaged(); d != nil {
			t.Errorf("damaged: %v", d)
		}
		if v, err := get(t, b, "user/8"); v != "2" || err != nil {
			t.Errorf("written: %q, %v", v, err)
		}
	}
}

// TestTheVersionOfADatabaseProvesNothing: no tag covers it. The owner of the database can edit a record and leave its
// version. A server that has the record in its cache goes on with the newer value and writes over the edit. One that
// starts later takes the older value of a single record that the manifest does not cover, and notices every other edit.
//
// docs/security.md says so.
func TestTheVersionOfADatabaseProvesNothing(t *testing.T) {
	db, s := onDatabase(t)
	s.create("ring/EdDSA", "1", "user/7", "old", "client/web", "old")
	node := s.join()
	older := db.Records()
	put(t, node, "user/7", "new", "client/web", "new")
	for _, key := range []string{"user/7", "client/web"} {
		if v, err := get(t, node, key); v != "new" || err != nil {
			t.Fatalf("%s: %q, %v", key, v, err)
		}
		db.Edit(key, older[key].Value)
		if v, err := get(t, node, key); v != "new" || err != nil {
			t.Errorf("a running server reads %s: %q, %v", key, v, err)
		}
	}
	later := s.join()
	if v, err := get(t, later, "user/7"); v != "old" || err != nil || later.Damaged() != nil {
		t.Errorf("after a start: %q, %v, %v", v, err, later.Damaged())
	}
	if err := later.CheckManifest(t.Context()); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("an older record that the manifest covers: %v", err)
	}
	db.Edit("user/7", append([]byte("x"), older["user/7"].Value[1:]...))
	if _, err := get(t, s.join(), "user/7"); !errors.Is(err, storage.ErrForged) {
		t.Errorf("a forged record: %v", err)
	}
	put(t, node, "client/web", "newer")
	if v, err := get(t, later, "client/web"); v != "newer" || err != nil {
		t.Errorf("written over the edit: %q, %v", v, err)
	}
}
