// Package storagetest has the conformance tests of storage.Store. Every store must pass all of
// them, in a test of its own package:
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, storagetest.Suite{Open: func(t *testing.T, dir string) storage.Store { … }})
//	}
//
// The tests are for all stores. So they do not count how often a function ran, and do not
// assume that two callers share a transaction or that they do not. What a function sees is checked
// after its transaction, because a run that is discarded may see anything.
//
// Rerunning tests the other side of the contract: the functions of callers.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"keymill/storage"
)

// A Suite says how the stores that are tested are opened.
type Suite struct {
	// Open opens the store of dir. A test that opens its store again calls Open twice with the
	// same dir. Open fails t if it cannot open the store.
	Open func(t *testing.T, dir string) storage.Store

	// OpenSecond opens the store of dir while others have it open, as another node does. It is nil
	// for a store that only one process can use.
	OpenSecond func(t *testing.T, dir string) storage.Store

	// Cut ends all connections between the stores of dir and their engine. It is nil for a store without connections.
	Cut func(t *testing.T, dir string)
}

// Run tests the stores of suite.
func Run(t *testing.T, suite Suite) {
	open := suite.Open
	for _, promise := range []struct {
		name string
		test func(t *testing.T, s storage.Store)
	}{
		{"ReadsWhatWasWritten", readsWhatWasWritten},
		{"GetAllKeepsItsOrder", getAllKeepsItsOrder},
		{"AnErrorWritesNothing", anErrorWritesNothing},
		{"APanicReachesItsCaller", aPanicReachesItsCaller},
		{"AViewDoesNotChange", aViewDoesNotChange},
		{"ScansInKeyOrder", scansInKeyOrder},
		{"ScansSeeOwnWrites", scansSeeOwnWrites},
		{"ScansMayWrite", scansMayWrite},
		{"EverythingIsACopy", everythingIsACopy},
		{"FailuresDoNotAffectOtherCallers", failuresDoNotAffectOtherCallers},
		{"CountersLoseNoUpdate", countersLoseNoUpdate},
		{"ATransferIsSeenWholeOrNotAtAll", aTransferIsSeenWholeOrNotAtAll},
		{"ACancelledContextIsRefused", aCancelledContextIsRefused},
		{"KeysAndValuesHaveLimits", keysAndValuesHaveLimits},
		{"AnUpdateHasLimits", anUpdateHasLimits},
		{"AnIgnoredLimitWritesNothing", anIgnoredLimitWritesNothing},
		{"AScanEndsAfterAnError", aScanEndsAfterAnError},
		{"AnEndedTransactionRefusesUse", anEndedTransactionRefusesUse},
		{"AnEndedScanRefusesUse", anEndedScanRefusesUse},
		{"AClosedStoreRefuses", aClosedStoreRefuses},
		{"AStoreThatWorksSaysSo", aStoreThatWorksSaysSo},
	} {
		t.Run(promise.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			t.Cleanup(func() { s.Close() })
			promise.test(t, s)
		})
	}
	t.Run("ReopeningKeepsEverything", func(t *testing.T) {
		reopeningKeepsEverything(t, open)
	})
	testTogether(t, suite)
}

func reopeningKeepsEverything(t *testing.T, open func(*testing.T, string) storage.Store) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "a", "1", "b", "2", "c", "3")
	update(t, s, func(t *run, tx storage.Tx) error { return tx.Delete("b") })
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = open(t, dir)
	defer s.Close()
	want(t, s, "a=1 c=3")
}

// A run holds what one run of a function finds wrong. Only that of the run that counts is reported, because
// a run that is discarded may see anything.
type run struct{ failures []string }

func (r *run) Helper() {}

func (r *run) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *run) report(t *testing.T) {
	t.Helper()
	for _, failure := range r.failures {
		t.Error(failure)
	}
}

// tryUpdate returns the error of the Update.
func tryUpdate(t *testing.T, s storage.Store, fn func(*run, storage.Tx) error) error {
	t.Helper()
	last := &run{}
	err := s.Update(context.Background(), func(tx storage.Tx) error {
		last = &run{}
		return fn(last, tx)
	})
	last.report(t)
	return err
}

// tryView returns the error of the View.
func tryView(t *testing.T, s storage.Store, fn func(*run, storage.Reader) error) error {
	t.Helper()
	last := &run{}
	err := s.View(context.Background(), func(r storage.Reader) error {
		last = &run{}
		return fn(last, r)
	})
	last.report(t)
	return err
}

func update(t *testing.T, s storage.Store, fn func(*run, storage.Tx) error) {
	t.Helper()
	if err := tryUpdate(t, s, fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t *testing.T, s storage.Store, fn func(*run, storage.Reader) error) {
	t.Helper()
	if err := tryView(t, s, fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// put writes pairs of key and value in one transaction.
func put(t *testing.T, s storage.Store, pairs ...string) {
	t.Helper()
	update(t, s, func(t *run, tx storage.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(pairs[i], []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
}

// list returns a range as "key=value key=value".
func list(r storage.Reader, start, end string) (string, error) {
	text := ""
	for e, err := range r.Scan(start, end) {
		if err != nil {
			return "", err
		}
		if text != "" {
			text += " "
		}
		text += e.Key + "=" + string(e.Value)
	}
	return text, nil
}

// want compares everything in the store.
func want(t *testing.T, s storage.Store, content string) {
	t.Helper()
	view(t, s, func(t *run, r storage.Reader) error {
		got, err := list(r, "", "")
		if got != content {
			t.Errorf("the store holds %q, want %q", got, content)
		}
		return err
	})
}

func wantErr(t interface {
	Helper()
	Errorf(format string, args ...any)
}, what string, got, wanted error) {
	t.Helper()
	if !errors.Is(got, wanted) {
		t.Errorf("%s: got %v, want %v", what, got, wanted)
	}
}
