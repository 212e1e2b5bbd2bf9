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
