package moved

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
)

func open(t *testing.T) storage.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func run() Record { return NewRun("/a", "/b", strings.Repeat("0", 32)) }

func write(s storage.Store) error {
	return s.Update(context.Background(), func(tx storage.Tx) error { return tx.Put("k", []byte("v")) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails the test unless err is an *Error of that state.
func refused(t *testing.T, err error, state State) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.State != state || !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("%v, want one of state %s", err, state)
	}
}

// TestNothingIsWrittenFromBeginOn through a Gate, while it is read, until the source is freed.
func TestNothingIsWrittenFromBeginOn(t *testing.T) {
	s, m := open(t), run()
	g := Gate{s}
	must(t, write(g))
	must(t, Begin(t.Context(), s, m, 0))
	refused(t, write(g), Moving)
	must(t, g.View(t.Context(), func(r storage.Reader) error { _, err := r.Get("k"); return err }))
	must(t, Renew(t.Context(), s, m.Run))
	refused(t, write(g), Moving)
	must(t, Free(t.Context(), s, m.Run))
	must(t, write(g))
	if err := Finish(t.Context(), s, m.Run); !errors.Is(err, ErrLost) {
		t.Fatalf("the end of a run whose source was written: %v", err)
	}
	must(t, write(g))
}

// TestAFullUpdateFitsThroughAGate: the record that the Gate reads does not count.
func TestAFullUpdateFitsThroughAGate(t *testing.T) {
	s := open(t)
	must(t, Gate{s}.Update(t.Context(), func(tx storage.Tx) error {
		for n := range storage.MaxUpdateKeys {
			if err := tx.Put(fmt.Sprint("k", n), nil); err != nil {
				return err
			}
		}
		return nil
	}))
	err := Gate{s}.Update(t.Context(), func(tx storage.Tx) error {
		for n := range storage.MaxUpdateKeys + 1 {
			tx.Put(fmt.Sprint("k", n), nil)
		}
		return nil
	})
	if !errors.Is(err, storage.ErrLimit) {
		t.Fatal(err)
	}
}

// TestOneRunHasASource: another one is refused while the first renews the record, takes a dead one over, and the first
// then cannot end.
func TestOneRunHasASource(t *testing.T) {
	s, first, second := open(t), run(), run()
	must(t, Begin(t.Context(), s, first, 0))
	refused(t, Begin(t.Context(), s, second, 0), Moving)
	seen, err := Of(t.Context(), s)
	must(t, err)
	must(t, Renew(t.Context(), s, first.Run))
	refused(t, Begin(t.Context(), s, second, seen.Beat), Moving)
	must(t, Begin(t.Context(), s, second, seen.Beat+1))
	for what, err := range map[string]error{"renew": Renew(t.Context(), s, first.Run), "finish": Finish(t.Context(), s, first.Run)} {
		if !errors.Is(err, ErrLost) {
			t.Errorf("%s of the first run: %v", what, err)
		}
	}
	must(t, Free(t.Context(), s, first.Run))
	refused(t, write(Gate{s}), Moving)
	must(t, Finish(t.Context(), s, second.Run))
	must(t, Finish(t.Context(), s, second.Run)) // its answer can be lost
	refused(t, Free(t.Context(), s, second.Run), Moved)
	refused(t, Free(t.Context(), s, ""), Moved)
	refused(t, Begin(t.Context(), s, run(), 99), Moved)
	refused(t, write(Gate{s}), Moved)
	refused(t, Admit(t.Context(), s, 0, nil), Moved)
}

// TestATargetIsEmptyOrThatOfTheSameSource.
func TestATargetIsEmptyOrThatOfTheSameSource(t *testing.T) {
	s, m := open(t), run()
	must(t, Expect(t.Context(), s, m))
	refused(t, Admit(t.Context(), s, 0, nil), Incomplete)
	refused(t, write(Gate{s}), Incomplete)
	again := run()
	must(t, Expect(t.Context(), s, again))
	if Expected(t.Context(), s, m.Run) == nil {
		t.Error("the first run still has the target")
	}
	must(t, Expected(t.Context(), s, again.Run))
	for _, other := range []Record{NewRun("/c", "/b", m.Database), NewRun("/a", "/b", "other")} {
		refused(t, Expect(t.Context(), s, other), Incomplete)
	}
	refused(t, Complete(t.Context(), s, m.Run), Incomplete)
	refused(t, Free(t.Context(), s, ""), Incomplete)
	must(t, Complete(t.Context(), s, again.Run))
	must(t, Complete(t.Context(), s, again.Run))
	must(t, Expect(t.Context(), s, m)) // it is empty
	must(t, Complete(t.Context(), s, m.Run))
	must(t, s.Update(t.Context(), func(tx storage.Tx) error {
		return storage.PutMeta(tx, storage.NewMeta(time.Now(), false))
	}))
	var occupied *OccupiedError
	if err := Expect(t.Context(), s, m); !errors.As(err, &occupied) || occupied.Same || len(occupied.Database) != 32 {
		t.Errorf("a target with a store: %v", err)
	}
}

// TestASourceOfADeadRunIsFreed by a server that serves it, and by one that starts, after a minute without Renew. That
// of a live one is not.
func TestASourceOfADeadRunIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := open(t), run()
		must(t, Begin(t.Context(), s, m, 0))
		ctx, cancel := context.WithCancel(t.Context())
		var loops sync.WaitGroup
		loops.Go(func() { Watch(ctx, s, slog.New(slog.DiscardHandler)) })
		for range 100 {
			time.Sleep(RenewEvery)
			must(t, Renew(t.Context(), s, m.Run))
		}
		refused(t, write(Gate{s}), Moving)
		refused(t, startedWhile(t, s, m), Moving)
		time.Sleep(FreeAfter - time.Second)
		refused(t, write(Gate{s}), Moving)
		time.Sleep(2*lookEvery + time.Second)
		must(t, write(Gate{s}))
		if err := Renew(t.Context(), s, m.Run); !errors.Is(err, ErrLost) {
			t.Errorf("the run that was taken for dead: %v", err)
		}
		cancel()
		loops.Wait()

		must(t, Begin(t.Context(), s, m, 0))
		begun := time.Now()
		said := time.Duration(-1)
		must(t, Admit(t.Context(), s, FreeAfter, func(Record) { said = time.Since(begun) }))
		if took := time.Since(begun); took < FreeAfter || took > FreeAfter+lookEvery || said != 0 {
			t.Errorf("a start waited for %v, and said so after %v", took, said)
		}
		must(t, Begin(t.Context(), s, m, 0))
		must(t, Admit(t.Context(), s, 0, func(Record) { t.Error("a start says that it waits, and does not wait") }))
		must(t, write(Gate{s}))
	})
}

// startedWhile returns the error of a start during a migration that goes on.
func startedWhile(t *testing.T, s storage.Store, m Record) error {
	ended := make(chan error)
	go func() { ended <- Admit(t.Context(), s, FreeAfter, nil) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-time.After(RenewEvery):
			must(t, Renew(t.Context(), s, m.Run))
		}
	}
}

// TestADamagedRecordStopsWritesAndStarts, and can be freed.
func TestADamagedRecordStopsWritesAndStarts(t *testing.T) {
	for _, value := range []string{"", "{}", `{"state":"moving"}`, `{"state":"gone","run":"","from":"","to":"","database":"","time":"2026-01-01T00:00:00Z"}`} {
		s := open(t)
		must(t, s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(storage.MovedKey, []byte(value)) }))
		for what, err := range map[string]error{"write": write(Gate{s}), "start": Admit(t.Context(), s, 0, nil), "begin": Begin(t.Context(), s, run(), 0), "free": Free(t.Context(), s, "run")} {
			if !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("%s with %q: %v", what, value, err)
			}
		}
		must(t, Free(t.Context(), s, ""))
		must(t, write(Gate{s}))
	}
}
