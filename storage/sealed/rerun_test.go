package sealed

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"keymill/storage"
	"keymill/storage/storagetest"
)

// TestADiscardedRunReportsNoDamage: it can read an older record beside a newer manifest, which looks like one that was
// put back.
//
// I23.
func TestADiscardedRunReportsNoDamage(t *testing.T) {
	base, _ := create(t)
	s := open(t, storagetest.Rerunning(base), testKeys)
	var looked atomic.Bool // a discarded run has seen damage
	for n := range 100 {
		now := fmt.Sprint(n)
		put(t, s, "client/a", now, "client/b", now)
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			if v, err := tx.Get("client/a"); err != nil || string(v) == now {
				return err // without a look at the manifest, which would show that it is whole
			}
			err := tx.Delete("client/b")
			if errors.Is(err, storage.ErrDamaged) {
				looked.Store(true)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if d := s.Damaged(); d != nil {
			t.Fatalf("update %d: %v", n, d)
		}
	}
	if !looked.Load() {
		t.Error("no discarded run saw damage, so this test checks nothing")
	}

	stored, err := get(t, base, "client/b")
	if err != nil {
		t.Fatal(err)
	}
	put(t, base, "client/b", "?"+stored[1:])
	for range 3 {
		if _, err := get(t, s, "client/b"); !errors.Is(err, storage.ErrForged) {
			t.Errorf("read: %v", err)
		}
		if d := s.Damaged(); len(d) != 1 || d[0].Key != "client/b" {
			t.Errorf("a forged record: %v", d)
		}
	}
	put(t, base, "client/b", stored)
	if _, err := get(t, s, "client/b"); err != nil || s.Damaged() != nil {
		t.Errorf("whole again: %v, %v", err, s.Damaged())
	}
}

// TestPromisesHoldWhereFunctionsRunAgain: some tests of this package on a store that discards runs. All of them run there
// with KEYMILL_RERUN=1.
func TestPromisesHoldWhereFunctionsRunAgain(t *testing.T) {
	t.Setenv("KEYMILL_RERUN", "1")
	for name, test := range map[string]func(*testing.T){
		"TestDifferencesAreOneLine":            TestDifferencesAreOneLine,
		"TestRetagTagsEveryRecordAgain":        TestRetagTagsEveryRecordAgain,
		"TestRetagRunsBesideOtherTransactions": TestRetagRunsBesideOtherTransactions,
	} {
		t.Run(name, test)
	}
}
