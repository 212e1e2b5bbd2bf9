package optimistic_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
)

// A gate holds operations of an Engine until it is opened.
type gate struct {
	operation string
	shut      atomic.Bool
	open      chan struct{}
}

func newGate(operation string) *gate { return &gate{operation: operation, open: make(chan struct{})} }

func (g *gate) faults() enginetest.Faults {
	return enginetest.Faults{Fail: func(operation string) error {
		if g.shut.Load() && operation == g.operation {
			<-g.open
		}
		return nil
	}}
}

// TestAnEngineThatIsAwayFailsTheCall also if the function ignores the error of its reads, and Status tells since when.
func TestAnEngineThatIsAwayFailsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		s, db := stores(t, 1, enginetest.Faults{Fail: func(string) error {
			if away.Load() {
				return fmt.Errorf("%w: no route", storage.ErrUnavailable)
			}
			return nil
		}})
		away.Store(true)
		began := time.Now()
		for name, fn := range map[string]func(tx storage.Tx) error{
			"Get": func(tx storage.Tx) error { tx.Get("a"); return tx.Put("b", nil) },
			"Scan": func(tx storage.Tx) error {
				tx.Scan("a", "b")(func(storage.Entry, error) bool { return true })
				return nil
			},
			"Blind": func(tx storage.Tx) error { return tx.Put("b", nil) },
			"Panic": func(tx storage.Tx) error {
				if _, err := tx.Get("a"); err != nil {
					panic(err)
				}
				return nil
			},
		} {
			if err := s[0].Update(t.Context(), fn); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s: Update returned %v", name, err)
			}
			if err := s[0].View(t.Context(), func(r storage.Reader) error { r.Get("a"); return nil }); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s: View returned %v", name, err)
			}
			time.Sleep(time.Second)
		}
		if st := s[0].Status(); st.Failed != nil || !errors.Is(st.Away, storage.ErrUnavailable) || !st.Since.Equal(began) {
			t.Errorf("while the engine is away the status is %+v", st)
		}
		away.Store(false)
		put(t, s[0], "c", "12")
		time.Sleep(time.Minute)
		s[0].Status()
		synctest.Wait()
		if st := s[0].Status(); st.Away != nil || !st.Since.IsZero() || st.Bytes != 3 {
			t.Errorf("after that the status is %+v", st)
		}
		if n := len(db.Records()); n != 1 {
			t.Errorf("%d records, want 1", n)
		}
	})
}

// TestALostAnswerConcernsItsGroupOnly. The next call sees what was written, because the cache is not trusted.
func TestALostAnswerConcernsItsGroupOnly(t *testing.T) {
	var lose atomic.Bool
	s, _ := stores(t, 1, enginetest.Faults{Lose: lose.Load})
	increment := func() error {
		return s[0].Update(t.Context(), func(tx storage.Tx) error { _, err := count(tx, "counter"); return err })
	}
	for n := range 10 {
		lose.Store(n == 5)
		if err := increment(); (n == 5) != errors.Is(err, storage.ErrUnknownOutcome) || n != 5 && err != nil {
			t.Errorf("call %d: %v", n, err)
		}
	}
	view(t, s[0], func(r storage.Reader) error {
		if v, err := get(r, "counter"); v != "10" || err != nil {
			t.Errorf("the counter is %q, %v; all 10 calls were written", v, err)
		}
		return nil
	})
	if st := s[0].Status(); st.Failed != nil || st.Away != nil {
		t.Errorf("status %+v", st)
	}
}

// TestAViewWaitsForNoWrite, neither with records in the cache nor without, and not when it scans.
func TestAViewWaitsForNoWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := enginetest.NewDatabase()
		begun, open := make(chan struct{}, 9), make(chan struct{})
		s := optimistic.New(&slowWrites{db.Open(enginetest.Faults{}), begun, open}, optimistic.Options{})
		defer s.Close()
		other := optimistic.New(db.Open(enginetest.Faults{}), optimistic.Options{})
		defer other.Close()
		put(t, other, "a", "1")
		go s.Update(context.Background(), func(tx storage.Tx) error { _, err := count(tx, "a"); return err })
		<-begun
		for _, forget := range []string{"", "a"} {
			s.Forget(forget)
			view(t, s, func(r storage.Reader) error {
				if v, err := get(r, "a"); v != "1" || err != nil {
					t.Errorf("read %q, %v", v, err)
				}
				return nil
			})
		}
		view(t, s, func(r storage.Reader) error {
			for _, err := range r.Scan("", "") {
				return err
			}
			return errors.New("no record")
		})
		close(open)
	})
}

// A slowWrites waits before it writes.
type slowWrites struct {
	optimistic.Engine
	begun chan<- struct{}
	open  <-chan struct{}
}

func (e *slowWrites) Commit(ctx context.Context, committer int, b *optimistic.Batch) (int64, *optimistic.Stale, error) {
	if (len(b.Writes) > 0) != (committer < 1) {
		panic("a batch of Views has a committer of its own")
	}
	if len(b.Writes) > 0 {
		e.begun <- struct{}{}
		<-e.open
	}
	return e.Engine.Commit(ctx, committer, b)
}

// TestAContextEndsACallInTheQueue, and not one that is being written.
func TestAContextEndsACallInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate("Commit")
		db := enginetest.NewDatabase()
		s := optimistic.New(db.Open(g.faults()), optimistic.Options{Committers: 1})
		defer s.Close()
		g.shut.Store(true)
		results := map[string]chan error{"written": make(chan error, 1), "queued": make(chan error, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		for _, key := range []string{"written", "queued"} {
			go func() {
				results[key] <- s.Update(ctx, func(tx storage.Tx) error { return tx.Put(key, nil) })
			}()
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		if err := <-results["queued"]; !errors.Is(err, context.Canceled) {
			t.Errorf("the call in the queue: %v", err)
		}
		select {
		case err := <-results["written"]:
			t.Errorf("the call that is being written has ended: %v", err)
		default:
		}
		g.shut.Store(false)
		close(g.open)
		if err := <-results["written"]; err != nil {
			t.Errorf("the call that was written: %v", err)
		}
		if records := db.Records(); len(records) != 1 {
			t.Errorf("the database holds %v", records)
		}
	})
}

// TestAContextThatEndsWhileTheFunctionRunsEndsTheCall, also if no other call is under way.
func TestAContextThatEndsWhileTheFunctionRunsEndsTheCall(t *testing.T) {
	s, db := stores(t, 1, enginetest.Faults{})
	for range 20 { // by chance the call could end as it should
		ctx, cancel := context.WithCancel(t.Context())
		err := s[0].Update(ctx, func(tx storage.Tx) error { cancel(); return tx.Put("a", nil) })
		if records := db.Records(); !errors.Is(err, context.Canceled) || len(records) != 0 {
			t.Fatalf("the call ended with %v, and the database holds %v", err, records)
		}
	}
}

// TestCloseWaitsForTransactions and refuses those that begin after it.
func TestCloseWaitsForTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate("Commit")
		db := enginetest.NewDatabase()
		s := optimistic.New(db.Open(g.faults()), optimistic.Options{})
		g.shut.Store(true)
		var closed atomic.Bool
		var all sync.WaitGroup
		for n := range 50 {
			all.Go(func() {
				if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(strconv.Itoa(n), nil) }); err != nil {
					t.Error(err)
				}
				if closed.Load() {
					t.Error("Close returned before a transaction")
				}
			})
		}
		synctest.Wait()
		done := make(chan error)
		go func() {
			err := s.Close()
			closed.Store(true)
			done <- err
		}()
		synctest.Wait()
		if err := s.View(t.Context(), func(storage.Reader) error { return nil }); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("a View that began while the store closes: %v", err)
		}
		g.shut.Store(false)
		close(g.open)
		if err := <-done; err != nil {
			t.Error(err)
		}
		all.Wait()
		if n := len(db.Records()); n != 50 {
			t.Errorf("%d records, want 50", n)
		}
	})
}

// TestAFunctionCanEndItsGoroutine in its first run and in one that a committer ordered. It writes nothing, and the
// store goes on.
func TestAFunctionCanEndItsGoroutine(t *testing.T) {
	for mostRuns := 1; mostRuns <= 2; mostRuns++ {
		s, db := stores(t, 2, enginetest.Faults{})
		put(t, s[0], "a", "1")
		done := make(chan struct{})
		runs := 0
		go func() {
			defer close(done)
			s[0].Update(context.Background(), func(tx storage.Tx) error {
				runs++
				if _, err := count(tx, "a"); err != nil {
					return err
				}
				if runs == mostRuns {
					runtime.Goexit()
				}
				put(t, s[1], "a", "5")
				return nil
			})
			t.Error("Update returned")
		}()
		<-done
		put(t, s[0], "b", "")
		if got := string(db.Records()["a"].Value); runs != mostRuns || got == "2" {
			t.Errorf("%d runs, and a is %s", runs, got)
		}
		s[0].Close()
	}
}

// TestAPanicHasTheStackOfItsFunction.
func TestAPanicHasTheStackOfItsFunction(t *testing.T) {
	s, _ := stores(t, 1, enginetest.Faults{})
	for name, call := range map[string]func(){
		"View":   func() { s[0].View(t.Context(), func(r storage.Reader) error { r.Get("a"); panic("test") }) },
		"Update": func() { s[0].Update(t.Context(), func(tx storage.Tx) error { tx.Get("a"); panic("test") }) },
	} {
		func() {
			defer func() {
				p, ok := recover().(*storage.Panic)
				if !ok || p.Value != "test" || !strings.Contains(string(p.Stack), "TestAPanicHasTheStack") {
					t.Errorf("%s: recovered %v", name, p)
				}
			}()
			call()
		}()
	}
}

// A forgetful loses its database while the function of a Snapshot runs, so many times.
type forgetful struct {
	optimistic.Engine
	losses atomic.Int64
}

func (e *forgetful) Snapshot(ctx context.Context, fn func(storage.Reader) error) error {
	return e.Engine.Snapshot(ctx, func(r storage.Reader) error {
		if e.losses.Add(-1) < 0 {
			return fn(r)
		}
		if err := fn(lost{r}); err != nil {
			return err
		}
		return storage.ErrUnavailable // the function ignored the error of its scan
	})
}

// A lost is the Reader of a connection that was cut.
type lost struct{ storage.Reader }

func (lost) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		yield(storage.Entry{}, fmt.Errorf("%w: connection reset", storage.ErrUnavailable))
	}
}

// TestAViewOutlivesALostSnapshot: its function runs again, and the caller is told only if that does not help.
func TestAViewOutlivesALostSnapshot(t *testing.T) {
	e := &forgetful{Engine: enginetest.NewDatabase().Open(enginetest.Faults{})}
	s := optimistic.New(e, optimistic.Options{})
	defer s.Close()
	put(t, s, "a", "1")
	scan := func() (n int, err error) {
		err = s.View(t.Context(), func(r storage.Reader) error {
			n = 0
			for _, err := range r.Scan("", "") {
				if err != nil {
					return err
				}
				n++
			}
			return nil
		})
		return n, err
	}
	e.losses.Store(2)
	if n, err := scan(); n != 1 || err != nil {
		t.Errorf("after two losses: %d records, %v", n, err)
	}
	e.losses.Store(1000)
	if _, err := scan(); !errors.Is(err, storage.ErrUnavailable) || e.losses.Load() != 1000-optimistic.MaxRuns {
		t.Errorf("%d runs, %v", 1000-e.losses.Load(), err)
	}
}
