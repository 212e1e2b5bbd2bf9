package optimistic_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
)

// TestCallsDoNotQueueForAnEngineThatIsAway: it takes ten seconds to say so each time, and the calls that came in this
// time get the answer with it.
func TestCallsDoNotQueueForAnEngineThatIsAway(t *testing.T) {
	const deadline = 10 * time.Second
	read := func(s storage.Store, key string) error {
		return s.View(context.Background(), func(r storage.Reader) error { _, err := r.GetAll(key); return err })
	}
	write := func(s storage.Store, key string) error {
		return s.Update(context.Background(), func(tx storage.Tx) error { return tx.Put(key, nil) })
	}
	for name, tt := range map[string]struct {
		call func(s storage.Store, key string) error
		why  error // of the Engine
	}{
		"Fetch":        {read, storage.ErrUnavailable},
		"Commit":       {write, storage.ErrUnavailable},
		"lost answers": {write, storage.ErrUnknownOutcome},
		"comparison":   {func(s storage.Store, _ string) error { return read(s, "known") }, storage.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var away atomic.Bool
				s, _ := stores(t, 1, enginetest.Faults{Fail: func(string) error {
					if !away.Load() {
						return nil
					}
					time.Sleep(deadline)
					return fmt.Errorf("%w: no route", tt.why)
				}})
				put(t, s[0], "known", "1")
				away.Store(true)
				var calls sync.WaitGroup
				var unknown atomic.Int64
				for i := range 300 { // more than a group
					calls.Go(func() {
						time.Sleep(time.Duration(i) * 20 * time.Millisecond)
						began := time.Now()
						err := tt.call(s[0], strconv.Itoa(i))
						if errors.Is(err, storage.ErrUnknownOutcome) {
							unknown.Add(1)
						} else if !errors.Is(err, storage.ErrUnavailable) {
							t.Errorf("call %d got %v", i, err)
						}
						if took := time.Since(began); took > deadline {
							t.Errorf("call %d got its answer after %s", i, took)
						}
					})
				}
				calls.Wait()
				if n := unknown.Load(); n > 1 {
					t.Errorf("the outcome of %d calls is unknown, but only one was sent", n)
				}
				away.Store(false)
				if err := tt.call(s[0], "later"); err != nil {
					t.Errorf("when the engine is back: %v", err)
				}
			})
		})
	}
}

// slowCommits takes almost the deadline of a call for each commit with writes, and no longer than the caller waits.
type slowCommits struct {
	optimistic.Engine
	takes time.Duration
}

func (e slowCommits) Commit(ctx context.Context, committer int, b *optimistic.Batch) (int64, *optimistic.Stale, error) {
	if len(b.Writes) > 0 {
		timer := time.NewTimer(e.takes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return 0, nil, fmt.Errorf("%w: the answer was lost", storage.ErrUnknownOutcome)
		}
	}
	return e.Engine.Commit(context.Background(), committer, b)
}

// TestAWaitBehindAnotherCommitCountsForTheDeadline of a call: it has one bound for both, also if the commit before it ends well.
func TestAWaitBehindAnotherCommitCountsForTheDeadline(t *testing.T) {
	const deadline = 10 * time.Second
	for _, committers := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			s := optimistic.New(slowCommits{enginetest.NewDatabase().Open(enginetest.Faults{}), deadline - 100*time.Millisecond}, optimistic.Options{Committers: committers})
			defer s.Close()
			var calls sync.WaitGroup
			var done, refused atomic.Int64
			for i := range 40 {
				calls.Go(func() {
					time.Sleep(time.Duration(i) * 550 * time.Millisecond)
					began := time.Now()
					err := s.Update(t.Context(), func(tx storage.Tx) error {
						if _, err := tx.GetAll("hot"); err != nil {
							return err
						}
						return tx.Put("hot", []byte(strconv.Itoa(i)))
					})
					switch {
					case err == nil:
						done.Add(1)
					case errors.Is(err, storage.ErrUnavailable), errors.Is(err, storage.ErrUnknownOutcome):
						refused.Add(1)
					default:
						t.Error(err)
					}
					if took := time.Since(began); took > deadline {
						t.Errorf("%d committers: call %d got its answer after %s", committers, i, took)
					}
				})
			}
			calls.Wait()
			if done.Load() == 0 || refused.Load() == 0 {
				t.Errorf("%d committers: %d calls succeeded, and %d were refused", committers, done.Load(), refused.Load())
			}
		})
	}
}

// A lateEngine answers no Commit and no Scan before the end of its context while it is silent, and its Fetches take long.
type lateEngine struct {
	optimistic.Engine
	silent  atomic.Bool
	fetch   time.Duration
	commits atomic.Int64
}

func (e *lateEngine) Fetch(ctx context.Context, keys []string) ([]optimistic.Record, error) {
	time.Sleep(e.fetch)
	return e.Engine.Fetch(ctx, keys)
}

func (e *lateEngine) Scan(ctx context.Context, start, end string, limit int) ([]optimistic.Record, error) {
	if e.silent.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return e.Engine.Scan(ctx, start, end, limit)
}

func (e *lateEngine) Commit(ctx context.Context, committer int, b *optimistic.Batch) (int64, *optimistic.Stale, error) {
	e.commits.Add(1)
	if e.silent.Load() {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	}
	return e.Engine.Commit(ctx, committer, b)
}

// TestTheDeadlineOfTheStoreIsNotOneOfItsCaller, who is told that the store cannot be reached.
func TestTheDeadlineOfTheStoreIsNotOneOfItsCaller(t *testing.T) {
	for what, fn := range map[string]func(tx storage.Tx) error{
		"an Update that reads": func(tx storage.Tx) error { _, err := tx.GetAll("known"); return err },
		"a Scan": func(tx storage.Tx) error {
			for _, err := range tx.Scan("", "") {
				return err
			}
			return nil
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &lateEngine{Engine: enginetest.NewDatabase().Open(enginetest.Faults{})}
			s := optimistic.New(e, optimistic.Options{})
			defer s.Close()
			put(t, s, "known", "1")
			e.silent.Store(true)
			began := time.Now()
			if err := s.Update(t.Context(), fn); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
				t.Errorf("%s: %v after %s", what, err, time.Since(began))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := s.Update(ctx, fn); what == "a Scan" && err != context.DeadlineExceeded {
				t.Errorf("after the deadline of the caller: %v", err)
			}
		})
	}
}

// TestACallWhoseReadsTookTooLongSendsNothing: the time that is left is too short to learn what became of it.
func TestACallWhoseReadsTookTooLongSendsNothing(t *testing.T) {
	for _, committers := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			e := &lateEngine{Engine: enginetest.NewDatabase().Open(enginetest.Faults{}), fetch: 9 * time.Second}
			s := optimistic.New(e, optimistic.Options{Committers: committers})
			defer s.Close()
			err := s.Update(t.Context(), func(tx storage.Tx) error { _, err := count(tx, "a"); return err })
			if sent := e.commits.Load(); !errors.Is(err, storage.ErrUnavailable) || sent != 0 {
				t.Errorf("%d committers: %v, and %d commits were sent", committers, err, sent)
			}
		})
	}
}

// TestAnAnswerThatIsThereCounts, although what its caller did in the meantime took longer than the deadline.
func TestAnAnswerThatIsThereCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := optimistic.New(enginetest.NewDatabase().Open(enginetest.Faults{}), optimistic.Options{})
		defer s.Close()
		put(t, s, "a", "1")
		for range 20 {
			err := storage.ViewThen(t.Context(), s, func(r storage.Reader) error { _, err := get(r, "a"); return err },
				func() { time.Sleep(time.Minute) })
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
