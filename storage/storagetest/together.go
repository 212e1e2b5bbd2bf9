package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"keymill/storage"
)

// failuresDoNotAffectOtherCallers runs many callers at once. A third of them fail and a
// third panic. Each gets its own result, and leaves its own writes or none.
func failuresDoNotAffectOtherCallers(t *testing.T, s storage.Store) {
	const callers = 90
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			refused := fmt.Errorf("refusal %d", i)
			defer func() {
				if p := recover(); (p != nil) != (i%3 == 2) {
					t.Errorf("caller %d: recovered %v", i, p)
				}
			}()
			err := s.Update(t.Context(), func(tx storage.Tx) error {
				if err := errors.Join(tx.Put("shared", []byte(key(i))), tx.Put(key(i), nil)); err != nil {
					return err
				}
				switch i % 3 {
				case 1:
					return refused
				case 2:
					panic("caller panics")
				}
				return nil
			})
			if i%3 == 0 && err != nil || i%3 == 1 && err != refused {
				t.Errorf("caller %d: got %v", i, err)
			}
		})
	}
	all.Wait()
	view(t, s, func(t *run, r storage.Reader) error {
		v, err := r.Get("shared")
		if last, _ := strconv.Atoi(string(v)); len(v) == 0 || last%3 != 0 {
			t.Errorf("the shared record was last written by caller %q, %v; want a caller that succeeded", v, err)
		}
		for i := range callers {
			_, err := r.Get(key(i))
			if wrote := err == nil; wrote != (i%3 == 0) {
				t.Errorf("caller %d: its record exists: %v", i, wrote)
			}
		}
		return nil
	})
}

// countersLoseNoUpdate: the callers of one counter together see every number once. A
// function may run again, but the value that it assigned last is the committed one.
func countersLoseNoUpdate(t *testing.T, s storage.Store) {
	const callers, rounds = 16, 25
	var all sync.WaitGroup
	var mu sync.Mutex
	var seen []int // guarded by mu
	for range callers {
		all.Go(func() {
			for range rounds {
				var next int
				err := s.Update(t.Context(), func(tx storage.Tx) error {
					v, err := tx.Get("counter")
					if err != nil && !errors.Is(err, storage.ErrNotFound) {
						return err
					}
					now, _ := strconv.Atoi(string(v))
					next = now + 1
					return tx.Put("counter", []byte(strconv.Itoa(next)))
				})
				if err != nil {
					t.Errorf("count: %v", err)
					return
				}
				mu.Lock()
				seen = append(seen, next)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(seen)
	for i, n := range seen {
		if n != i+1 {
			t.Fatalf("value %d of the counter is %d", i+1, n)
		}
	}
	want(t, s, fmt.Sprintf("counter=%d", callers*rounds))
}

// aTransferIsSeenWholeOrNotAtAll: two accounts always hold 100 together, for readers and
// for other writers.
func aTransferIsSeenWholeOrNotAtAll(t *testing.T, s storage.Store) {
	put(t, s, "left", "100", "right", "0")
	sum := func(t *run, r storage.Reader) (left, right int, err error) {
		both, err := r.GetAll("left", "right")
		if err != nil {
			return 0, 0, err
		}
		left, _ = strconv.Atoi(string(both[0]))
		right, _ = strconv.Atoi(string(both[1]))
		if left+right != 100 {
			t.Errorf("the accounts hold %d and %d, want 100 together", left, right)
		}
		return left, right, nil
	}
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := tryView(t, s, func(t *run, r storage.Reader) error {
					_, _, err := sum(t, r)
					return err
				}); err != nil {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
		writers.Go(func() {
			for range 50 {
				err := tryUpdate(t, s, func(t *run, tx storage.Tx) error {
					left, right, err := sum(t, tx)
					if err != nil {
						return err
					}
					return errors.Join(
						tx.Put("left", []byte(strconv.Itoa(left-1))),
						tx.Put("right", []byte(strconv.Itoa(right+1))))
				})
				if err != nil {
					t.Errorf("transfer: %v", err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	want(t, s, "left=-100 right=200")
}
