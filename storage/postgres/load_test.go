package postgres

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// A load increments one counter from several committers of several engines, until it is stopped.
type load struct {
	engines []*Engine
	stopped chan struct{}
	running sync.WaitGroup

	acknowledged, unknown, failed atomic.Int64
	mu                            sync.Mutex
	last                          time.Time     // of an acknowledgement; guarded by mu
	gap                           time.Duration // the longest time without one; guarded by mu
	problem                       error         // the last error; guarded by mu
}

const committersOfLoad = 2

func startLoad(engines ...*Engine) *load {
	l := &load{engines: engines, stopped: make(chan struct{}), last: time.Now()}
	for _, e := range engines {
		for committer := range committersOfLoad {
			l.running.Go(func() {
				for !l.done() {
					l.count(e, committer)
				}
			})
		}
	}
	return l
}

func (l *load) done() bool {
	select {
	case <-l.stopped:
		return true
	default:
		return false
	}
}

// count increments the counter once, as a store does: read, decide, commit, and again if it changed.
func (l *load) count(e *Engine, committer int) {
	err := increment(e, committer)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acknowledged.Add(1)
		l.gap = max(l.gap, time.Since(l.last))
		l.last = time.Now()
		return
	case errors.Is(err, storage.ErrUnknownOutcome):
		l.unknown.Add(1)
	default:
		l.failed.Add(1)
	}
	l.problem = err
}

func increment(e *Engine, committer int) error {
	ctx := context.Background()
	records, err := e.Fetch(ctx, []string{"counter"})
	if err != nil {
		return err
	}
	for {
		n, _ := strconv.Atoi(string(records[0].Value))
		_, stale, err := e.Commit(ctx, committer, batch(reads("counter", records[0].Version), puts("counter", strconv.Itoa(n+1))))
		if err != nil || stale == nil {
			return err
		}
		records = stale.Records
	}
}

// check stops the load and compares what was acknowledged with what is stored, to the unit.
func (l *load) check(t *testing.T, reader *Engine) {
	t.Helper()
	close(l.stopped)
	l.running.Wait()
	records, err := reader.Fetch(context.Background(), []string{"counter"})
	if err != nil {
		t.Fatal(err)
	}
	stored, _ := strconv.ParseInt(string(records[0].Value), 10, 64)
	t.Logf("acknowledged %d, stored %d, unknown %d, failed %d, longest gap %v", l.acknowledged.Load(), stored, l.unknown.Load(), l.failed.Load(), l.gap)
	if l.unknown.Load()+l.failed.Load() > 0 {
		t.Errorf("%d callers learned no outcome and %d failed, the last one with: %v", l.unknown.Load(), l.failed.Load(), l.problem)
	}
	if stored != l.acknowledged.Load() || stored == 0 {
		t.Errorf("acknowledged %d, stored %d", l.acknowledged.Load(), stored)
	}
}

// update runs one transaction as a store does: fn decides from records and a span what to write.
func update(e *Engine, committer int, keys []string, start, end string, fn func(records, span []optimistic.Record) []part) error {
	ctx := context.Background()
	for {
		records, err := e.Fetch(ctx, keys)
		if err != nil {
			return err
		}
		var span []optimistic.Record
		var parts []part
		if end != "" {
			if span, err = e.Scan(ctx, start, end, 100); err != nil {
				return err
			}
			parts = append(parts, scanned(start, end, span...))
		}
		for _, r := range records {
			parts = append(parts, reads(r.Key, r.Version))
		}
		writes := fn(records, span)
		if writes == nil {
			return nil
		}
		_, stale, err := e.Commit(ctx, committer, batch(append(parts, writes...)...))
		if err != nil || stale == nil {
			return err
		}
	}
}
