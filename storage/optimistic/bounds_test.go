package optimistic_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
)

// TestTheCacheIsBoundedInBytes, whatever the sizes of records are.
func TestTheCacheIsBoundedInBytes(t *testing.T) {
	const bound = 4 << 20
	db := enginetest.NewDatabase()
	s := optimistic.New(db.Open(enginetest.Faults{}), optimistic.Options{CacheBytes: bound})
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	var most int64
	for n := range 600 {
		size := []int{0, 100, storage.MaxValueBytes}[n%3]
		put(t, s, fmt.Sprintf("key/%03d", r.IntN(400)), string(make([]byte, size)))
		update(t, s, func(tx storage.Tx) error { _, err := tx.GetAll(fmt.Sprintf("key/%03d", r.IntN(400))); return err })
		most = max(most, s.CacheBytes())
	}
	if most > bound || most < bound/2 {
		t.Errorf("the cache took up %d bytes at most, want nearly %d", most, bound)
	}
}

// A measure is an Engine that notes the largest batch and the numbers of committers.
type measure struct {
	optimistic.Engine
	mu         sync.Mutex
	keys       int          // in one batch at most; guarded by mu, as all below
	busy       map[int]bool // the committers with a batch under way
	overlapped bool
	wrong      string
}

func (m *measure) Commit(ctx context.Context, committer int, b *optimistic.Batch) (int64, *optimistic.Stale, error) {
	keys := map[string]bool{}
	for _, r := range b.Reads {
		keys[r.Key] = true
		if r.Value != nil {
			m.wrong = "a read has a value"
		}
	}
	for _, w := range b.Writes {
		keys[w.Key] = true
	}
	m.mu.Lock()
	m.keys = max(m.keys, len(keys))
	m.overlapped = m.overlapped || m.busy[committer]
	m.busy[committer] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.busy[committer] = false
		m.mu.Unlock()
	}()
	return m.Engine.Commit(ctx, committer, b)
}

// TestGroupsAreBounded in keys and in calls, and nearly reach their bounds.
func TestGroupsAreBounded(t *testing.T) {
	for name, tt := range map[string]struct{ keysPerCall, calls, wantKeys, wantCalls int }{
		"Keys":  {storage.MaxUpdateKeys, 40, optimistic.MaxCommitKeys, 8},
		"Calls": {1, 1000, optimistic.MaxGroupCalls, optimistic.MaxGroupCalls},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				calls, sum := 0, 0 // guarded by mu
				e := &measure{Engine: enginetest.NewDatabase().Open(wire(time.Millisecond)), busy: map[int]bool{}}
				s := optimistic.New(e, optimistic.Options{Committed: func(took time.Duration, n int) {
					mu.Lock()
					defer mu.Unlock()
					calls, sum = max(calls, n), sum+n
				}})
				var all sync.WaitGroup
				for n := range tt.calls {
					all.Go(func() {
						update(t, s, func(tx storage.Tx) error {
							for i := range tt.keysPerCall {
								if err := tx.Put(fmt.Sprintf("%d/%d", n, i), nil); err != nil {
									return err
								}
							}
							return nil
						})
					})
				}
				all.Wait()
				s.Close()
				if e.keys != tt.wantKeys || calls != tt.wantCalls || sum != tt.calls {
					t.Errorf("at most %d keys and %d calls in a group, want %d and %d; %d calls in all", e.keys, calls, tt.wantKeys, tt.wantCalls, sum)
				}
				if e.overlapped || e.wrong != "" {
					t.Errorf("batches of one committer overlapped: %v; %s", e.overlapped, e.wrong)
				}
			})
		})
	}
}

// TestTiredCallsRunExclusively, also if their functions scan and read the writes of each other.
func TestTiredCallsRunExclusively(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := enginetest.NewDatabase()
		other := optimistic.New(db.Open(enginetest.Faults{}), optimistic.Options{})
		defer other.Close()
		put(t, other, "total", "0")
		// Another node writes before every batch.
		s := optimistic.New(db.Open(enginetest.Faults{
			Delay: func(string) time.Duration { return time.Millisecond },
			Touch: func(*optimistic.Batch) string { return "total" },
		}), optimistic.Options{Committers: 1})
		defer s.Close()
		const callers = 10
		var all sync.WaitGroup
		for n := range callers {
			all.Go(func() {
				runs, seen := 0, 0
				update(t, s, func(tx storage.Tx) error {
					runs++
					total, err := count(tx, "total")
					if err != nil {
						return err
					}
					seen = -total
					for _, err := range tx.Scan("call/", "call0") {
						if seen++; err != nil {
							return err
						}
					}
					return tx.Put(fmt.Sprintf("call/%d", n), nil)
				})
				if runs > optimistic.MaxRuns+1 || seen != -1 {
					t.Errorf("%d runs; the scan saw %d records more than were counted", runs, seen+1)
				}
			})
		}
		all.Wait()
		if got := string(db.Records()["total"].Value); got != fmt.Sprint(callers) {
			t.Errorf("the total is %s, want %d", got, callers)
		}
	})
}
