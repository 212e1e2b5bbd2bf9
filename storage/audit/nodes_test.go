package audit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/nodes"
)

const poll = 5 * time.Second

// A chainingNode is one server that runs the chain of a store that several have open.
type chainingNode struct {
	storage.Store
	updates  atomic.Int64  // that it began
	paused   chan struct{} // not nil: its next Update waits until this is closed
	registry *nodes.Registry
	stop     func()
}

func (n *chainingNode) Update(ctx context.Context, fn func(storage.Tx) error) error {
	n.updates.Add(1)
	if n.paused != nil {
		<-n.paused
	}
	return n.Store.Update(ctx, fn)
}

func startChaining(t *testing.T, s storage.Store, id string, hold func(context.Context) (bool, error)) *chainingNode {
	n := &chainingNode{Store: s, registry: nodes.New(nodes.Config{ID: id, Poll: poll})}
	if hold == nil {
		hold = n.registry.Lease(s, "chain")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, n, RunConfig{Log: slog.New(slog.DiscardHandler), Hold: hold}) }()
	n.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return n
}

// waitingRecords returns how many records are not in the chain.
func waitingRecords(t *testing.T, s storage.Store) (n int) {
	t.Helper()
	if err := s.View(t.Context(), func(r storage.Reader) error {
		n = 0
		for range r.Scan(newPrefix, newEnd) {
			n++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTheHolderOfTheLeaseChains, and another node goes on after it has ended.
func TestTheHolderOfTheLeaseChains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		a := startChaining(t, s, "a", nil)
		time.Sleep(time.Second)
		b := startChaining(t, s, "b", nil)
		decided := 0
		some := func() {
			for range 20 {
				decide(t, s, decided, 1)
				decided++
				time.Sleep(time.Second)
			}
		}
		some()
		if n := waitingRecords(t, s); n > 1 {
			t.Errorf("%d records wait", n)
		}
		if a.updates.Load() == 0 || b.updates.Load() != 0 {
			t.Errorf("a chained %d times and b %d times, want a alone", a.updates.Load(), b.updates.Load())
		}
		a.stop() // as a crash: it does not give the lease back
		some()
		time.Sleep(5 * poll)
		if n := waitingRecords(t, s); n != 0 || b.updates.Load() == 0 {
			t.Errorf("%d records wait after the holder has ended, and b chained %d times", n, b.updates.Load())
		}
		verify(t, s, uint64(decided))
		b.stop()
	})
}

// TestAHolderThatWakesKeepsTheChain: two nodes that both believe to hold the lease chain each record once.
func TestAHolderThatWakesKeepsTheChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		always := func(context.Context) (bool, error) { return true, nil }
		wake := make(chan struct{})
		a := startChaining(t, s, "a", always)
		a.paused = wake // after it has read the records and before it writes
		decide(t, s, 0, 2*pageRecords+5)
		time.Sleep(2 * time.Second)
		b := startChaining(t, s, "b", always)
		for n := range 5 {
			decide(t, s, 2*pageRecords+5+n, 1)
			time.Sleep(time.Second)
		}
		close(wake)
		decide(t, s, 2*pageRecords+10, 3*pageRecords)
		time.Sleep(2 * time.Second)
		verify(t, s, 5*pageRecords+10)
		if n := waitingRecords(t, s); n != 0 {
			t.Errorf("%d records wait", n)
		}
		page, err := Read(t.Context(), s, Query{Forward: true, Limit: maxPage})
		if err != nil {
			t.Fatal(err)
		}
		times := map[string]int{}
		for _, r := range page.Records {
			if times[r.Target]++; times[r.Target] > 1 || r.Action == "audit.damaged" {
				t.Errorf("record %d is %s of %q, for the %d. time", r.Seq, r.Action, r.Target, times[r.Target])
			}
		}
		a.stop()
		b.stop()
	})
}

// TestTheLeaseIsAskedBeforeEachBatch, so a node that loses it stops between two of them.
func TestTheLeaseIsAskedBeforeEachBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		decide(t, s, 0, 3*pageRecords)
		var asked atomic.Int64
		n := startChaining(t, s, "a", func(context.Context) (bool, error) { return asked.Add(1) == 1, nil })
		time.Sleep(10 * time.Second)
		if left := waitingRecords(t, s); left != 2*pageRecords {
			t.Errorf("%d records wait, want the rest of %d", left, 2*pageRecords)
		}
		n.stop()
	})
}

// TestWhatWasWrittenIsRememberedOnce: a server that was paused does not put back a number of another one.
func TestWhatWasWrittenIsRememberedOnce(t *testing.T) {
	s := openStore(t)
	for _, step := range []struct{ before, seq, want uint64 }{
		{0, 10, 10},
		{0, 7, 10}, // of a server that began at 0 too
		{10, 25, 25},
		{10, 12, 25},
		{25, 3, 3}, // the log has become shorter
	} {
		now, err := SetWritten(t.Context(), s, step.before, step.seq)
		if err != nil || now != step.want {
			t.Errorf("SetWritten(%d, %d) returned %d, %v, want %d", step.before, step.seq, now, err, step.want)
		}
		if seq, err := Written(t.Context(), s); err != nil || seq != step.want {
			t.Errorf("Written returned %d, %v, want %d", seq, err, step.want)
		}
	}
}
