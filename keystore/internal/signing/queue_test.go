package signing

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestJobsRunInOrderOfArrival(t *testing.T) {
	for _, q := range []*Queue{NewQueue(1), NewQueueOutside(1, func() bool { return false })} {
		synctest.Test(t, func(t *testing.T) { testOrder(t, q) })
	}
}

func testOrder(t *testing.T, q *Queue) {
	held := make(chan struct{})
	go q.Do(t.Context(), func() { <-held })
	synctest.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- q.Do(ctx, func() { t.Error("a cancelled job ran") }) }()
	synctest.Wait()
	var order []int
	for i := range MaxWaiting - 1 {
		go q.Do(t.Context(), func() { order = append(order, i) })
		synctest.Wait()
	}
	if err := q.Do(t.Context(), func() { t.Error("a job ran although the queue was full") }); !errors.Is(err, ErrFull) || !q.Full() {
		t.Errorf("a job for a full queue: %v", err)
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled job: %v", err)
	}
	close(held)
	synctest.Wait()
	if len(order) != MaxWaiting-1 || !slices.IsSorted(order) {
		t.Errorf("%d jobs ran, in order: %v", len(order), slices.IsSorted(order))
	}
	if q.free != 1 || len(q.jobs) != 0 {
		t.Errorf("%d places are free, %d jobs are left", q.free, len(q.jobs))
	}
}

func TestJobsAreBounded(t *testing.T) {
	for most, q := range map[int64]*Queue{3: NewQueue(3), 6: NewQueueOutside(3, func() bool { return true })} {
		testBound(t, q, most)
	}
	testBound(t, NewQueueOutside(3, func() bool { return false }), 3)
}

// testBound runs so many jobs that the line is long.
func testBound(t *testing.T, q *Queue, want int64) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				err := q.Do(t.Context(), func() {
					n := now.Add(1)
					for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
					}
					time.Sleep(100 * time.Microsecond)
					now.Add(-1)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		synctest.Wait() // a job has ended before its slot is free
		if most.Load() != want || q.free != 3 || q.more != 0 || len(q.jobs) != 0 {
			t.Errorf("%d jobs ran at once, want %d; %d slots are free, %d jobs run beside, %d are left", most.Load(), want, q.free, q.more, len(q.jobs))
		}
	})
}
