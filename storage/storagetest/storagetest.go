// Package storagetest is the other half of the storage contract: what every store
// promises, as tests. A store passes it whole or is not one.
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T, dir string) storage.Store { … })
//	}
//
// The suite is written for all stores, so it never counts how often a function ran,
// nor assumes that two callers do or do not share a transaction.
package storagetest

import (
	"context"
	"errors"
	"testing"

	"keymill/storage"
)

// Run tests the stores that open makes. open is given the same dir twice where a
// test opens its store again; it fails t if it cannot open.
func Run(t *testing.T, open func(t *testing.T, dir string) storage.Store) {
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
		{"FailingNeighboursDoNoHarm", failingNeighboursDoNoHarm},
		{"CountersLoseNothing", countersLoseNothing},
		{"ATransferIsNeverHalfSeen", aTransferIsNeverHalfSeen},
		{"ACancelledContextIsRefused", aCancelledContextIsRefused},
		{"KeysAndValuesHaveLimits", keysAndValuesHaveLimits},
		{"AnUpdateHasLimits", anUpdateHasLimits},
		{"AnOverlookedLimitWritesNothing", anOverlookedLimitWritesNothing},
		{"ATransactionEnds", aTransactionEnds},
		{"AClosedStoreRefuses", aClosedStoreRefuses},
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
}

func reopeningKeepsEverything(t *testing.T, open func(*testing.T, string) storage.Store) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "a", "1", "b", "2", "c", "3")
	update(t, s, func(tx storage.Tx) error { return tx.Delete("b") })
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = open(t, dir)
	defer s.Close()
	want(t, s, "a=1 c=3")
}

func update(t *testing.T, s storage.Store, fn func(storage.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t *testing.T, s storage.Store, fn func(storage.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// put writes pairs of key and value in one transaction.
func put(t *testing.T, s storage.Store, pairs ...string) {
	t.Helper()
	update(t, s, func(tx storage.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(pairs[i], []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
}

// list renders a range as "key=value key=value".
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

// want checks the whole store.
func want(t *testing.T, s storage.Store, content string) {
	t.Helper()
	view(t, s, func(r storage.Reader) error {
		got, err := list(r, "", "\x7f")
		if got != content {
			t.Errorf("store holds %q, want %q", got, content)
		}
		return err
	})
}

func wantErr(t *testing.T, what string, got, wanted error) {
	t.Helper()
	if !errors.Is(got, wanted) {
		t.Errorf("%s: got %v, want %v", what, got, wanted)
	}
}
