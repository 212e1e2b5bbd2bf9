package optimistic_test

import (
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

// TestNoFunctionRunsMoreThan20Times while 3 nodes with 16 callers each count in one record. On one node the committers
// do not make each other stale.
func TestNoFunctionRunsMoreThan20Times(t *testing.T) {
	for nodes, mostRuns := range map[int]int64{1: 6, 3: 20} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { countTogether(t, nodes, mostRuns) })
		})
	}
}

func countTogether(t *testing.T, nodes int, mostRuns int64) {
	const callers, rounds = 16, 50
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
					update(t, s, func(tx storage.Tx) error {
						runs++
						_, err := count(tx, "counter")
						return err
					})
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
}
