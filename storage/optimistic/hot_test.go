package optimistic_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// wire delays every request and every answer by up to max.
func wire(max time.Duration) enginetest.Faults {
	return enginetest.Faults{Delay: func(string) time.Duration { return rand.N(max) }}
}

// count adds one to the counter under key.
func count(tx storage.Tx, key string) (int, error) {
	v, err := tx.Get(key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return 0, err
	}
	now, _ := strconv.Atoi(string(v))
	return now + 1, tx.Put(key, []byte(strconv.Itoa(now+1)))
}

// TestNoFunctionRunsMoreThan20Times while 3 nodes with 16 callers each count in one record.
func TestNoFunctionRunsMoreThan20Times(t *testing.T) {
	const nodes, callers, rounds, mostRuns = 3, 16, 50, 20
	synctest.Test(t, func(t *testing.T) {
		db := enginetest.NewDatabase()
		var all sync.WaitGroup
		var most, sum atomic.Int64
		for range nodes {
			s := optimistic.New(db.Open(wire(time.Millisecond)), optimistic.Options{})
			defer s.Close()
			for range callers {
				all.Go(func() {
					for range rounds {
						runs := int64(0)
						if err := s.Update(context.Background(), func(tx storage.Tx) error {
							runs++
							_, err := count(tx, "counter")
							return err
						}); err != nil {
							t.Errorf("count: %v", err)
						}
						sum.Add(runs)
						for m := most.Load(); runs > m && !most.CompareAndSwap(m, runs); m = most.Load() {
						}
					}
				})
			}
		}
		begun := time.Now()
		all.Wait()
		if n := most.Load(); n > mostRuns {
			t.Errorf("a function ran %d times, at most %d are allowed", n, mostRuns)
		}
		want := nodes * callers * rounds
		if got := string(db.Records()["counter"].Value); got != fmt.Sprint(want) {
			t.Errorf("the counter is %s, want %d", got, want)
		}
		t.Logf("%d calls: %.1f runs each, at most %d; %v per call", want, float64(sum.Load())/float64(want), most.Load(), time.Since(begun)/time.Duration(want))
	})
}
