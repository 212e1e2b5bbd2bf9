package outbox

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// TestADiscardedRunTakesNoSlot: neither one that ran again nor one that failed, also before the next count.
func TestADiscardedRunTakesNoSlot(t *testing.T) {
	w := newWorld(t)
	w.store = storagetest.Rerunning(w.store)
	w.decide(3)
	if used := w.used(); used != 3 {
		t.Errorf("3 events take %d slots", used)
	}
	failed := errors.New("failed")
	for range 2 {
		err := w.Over(w.store).Update(t.Context(), func(tx storage.Tx) error {
			return errors.Join(w.Add(tx, time.Now(), "user.revoked", nil), failed)
		})
		if !errors.Is(err, failed) {
			t.Fatal(err)
		}
		func() {
			defer func() { recover() }()
			w.Over(w.store).Update(t.Context(), func(tx storage.Tx) error {
				w.Add(tx, time.Now(), "user.revoked", nil)
				panic(failed)
			})
		}()
	}
	if used := w.used(); used != 3 {
		t.Errorf("after decisions that failed, 3 events take %d slots", used)
	}
}

// TestAnEventOfALostAnswerKeepsItsSlot, because it may be stored.
func TestAnEventOfALostAnswerKeepsItsSlot(t *testing.T) {
	w := newWorld(t)
	lost := answerless{w.store}
	if err := w.Over(lost).Update(t.Context(), func(tx storage.Tx) error {
		return w.Add(tx, time.Now(), "user.revoked", nil)
	}); !errors.Is(err, storage.ErrUnknownOutcome) {
		t.Fatal(err)
	}
	if w.used() != 1 || w.stored() != 1 {
		t.Errorf("%d slots for %d events", w.used(), w.stored())
	}
}

// An answerless store commits and does not say so.
type answerless struct{ storage.Store }

func (s answerless) Update(ctx context.Context, fn func(storage.Tx) error) error {
	return errors.Join(s.Store.Update(ctx, fn), storage.ErrUnknownOutcome)
}

func TestAnEventNeedsATransactionOfOver(t *testing.T) {
	w := newWorld(t)
	err := w.store.Update(t.Context(), func(tx storage.Tx) error { return w.Add(tx, time.Now(), "user.revoked", nil) })
	if err == nil || w.stored() != 0 {
		t.Errorf("an event that takes no slot is written: %v", err)
	}
}

// TestACountWaitsForEachCallBeforeIt: a store commits Updates in any order, so an empty one is no barrier.
func TestACountWaitsForEachCallBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		held := &heldStore{Store: w.store, commit: make(chan struct{})}
		var all sync.WaitGroup
		all.Go(func() {
			if err := w.Over(held).Update(context.Background(), func(tx storage.Tx) error {
				return w.Add(tx, time.Now(), "session.revoked", nil)
			}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.ReportLost(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the count did not wait for a commit: %v", err)
		}
		if w.used() != 1 {
			t.Errorf("%d slots are in use while an event is being committed", w.used())
		}
		all.Go(func() { w.lost() })
		synctest.Wait()
		w.decide(1) // this one waits for no count
		close(held.commit)
		all.Wait()
		if w.used() < 2 || w.stored() != 2 {
			t.Errorf("%d slots for %d events", w.used(), w.stored())
		}
		if w.lost(); w.used() != 2 {
			t.Errorf("%d slots for 2 events after another count", w.used())
		}
	})
}

// A heldStore runs functions at once and commits their writes when it may.
type heldStore struct {
	storage.Store
	commit chan struct{}
}

func (s *heldStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	var writes []storage.Entry
	if err := s.View(ctx, func(r storage.Reader) error {
		writes = nil
		tx := storage.NewOverlay(r)
		defer tx.End()
		if err := fn(tx); err != nil {
			return err
		}
		for e := range tx.Writes() {
			writes = append(writes, storage.Entry{Key: e.Key, Value: e.Value})
		}
		return nil
	}); err != nil {
		return err
	}
	<-s.commit
	return s.Store.Update(ctx, func(tx storage.Tx) error {
		for _, e := range writes {
			if err := tx.Put(e.Key, e.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// servers returns the worlds of n servers on one store.
func servers(t *testing.T, n int) []*world {
	t.Helper()
	file, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*world, n)
	for i := range all {
		all[i] = &world{t: t, store: storagetest.RerunningIfAsked(file)}
		if all[i].Outbox, err = Open(t.Context(), Config{Store: all[i].store, Now: time.Now, WallTime: time.Now}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestSeveralServersShareTheBound: the store holds at most 10,000 events and 500 for each server. What one server
// has delivered is free for the others within ten seconds.
func TestSeveralServersShareTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := servers(t, 3)
		defer nodes[0].store.Close()
		nodes[0].decide(maxEvents - 900)
		var all sync.WaitGroup
		for _, w := range nodes {
			all.Go(func() { w.storm(2, 1000) })
		}
		all.Wait()
		n := nodes[0].stored()
		if n < maxEvents || n > maxEvents+3*maxSince {
			t.Errorf("%d events wait, want 10,000 to 11,500", n)
		}
		lost := int64(0)
		for _, w := range nodes {
			lost += w.lost()
		}
		if n+lost != maxEvents-900+6000 {
			t.Errorf("%d events wait and %d were lost, of %d", n, lost, maxEvents-900+6000)
		}
		list := nodes[0].waiting()
		for _, e := range list[:n-maxEvents+10] {
			if err := nodes[1].MarkSent(t.Context(), e.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(countAgain)
		nodes[2].decide(10)
		if got := nodes[0].stored(); got != maxEvents || nodes[2].lost() != 0 {
			t.Errorf("%d events wait after another server delivered some, want %d", got, maxEvents)
		}
	})
}
