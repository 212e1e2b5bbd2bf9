package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/outbox"
	"keymill/jwks"
	"keymill/storage/nodes"
)

const poll = 5 * time.Second

// A node is another Sender over the store of a world.
type node struct {
	*Sender
	registry *nodes.Registry
	stop     func()
}

// node starts a Sender, which asks hold, or else the lease.
func (w *world) node(id string, hold func(context.Context) (bool, error)) *node {
	w.t.Helper()
	n := &node{registry: nodes.New(nodes.Config{ID: id, Poll: poll})}
	box, err := outbox.Open(w.t.Context(), outbox.Config{Store: w.store, Now: w.outbox.WallTime, WallTime: w.outbox.WallTime})
	if err != nil {
		w.t.Fatal(err)
	}
	if hold == nil {
		hold = n.registry.Lease(w.store, "webhook")
	}
	n.Sender, err = New(Config{
		URL: "https://siem.example.com" + hookPath, Loopback: jwks.IsLoopback, Secret: hookSecret, Outbox: box, Hold: hold,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	n.client.Transport = w.receiver
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(n.stop)
	return n
}

// leaveSome leaves events for a time, one a second.
func (w *world) leaveSome(d time.Duration) {
	for range d / time.Second {
		w.leave("session.revoked")
		time.Sleep(time.Second)
	}
}

func (w *world) wantEachOnce(n int) {
	w.t.Helper()
	times := map[string]int{}
	for _, try := range w.receiver.tries("") {
		times[try.id]++
	}
	if len(times) != n || len(w.waiting()) != 0 {
		w.t.Errorf("%d events arrived and %d wait, want all %d", len(times), len(w.waiting()), n)
	}
	for id, n := range times {
		if n != 1 {
			w.t.Errorf("%s was sent %d times", id, n)
		}
	}
}

// TestOneNodeSendsEachEvent, also while the node that sends is stopped or disappears.
func TestOneNodeSendsEachEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		a := w.node("a", nil)
		time.Sleep(time.Second)
		b, c := w.node("b", nil), w.node("c", nil)
		w.leaveSome(20 * time.Second)
		a.stop() // as a crash does: the lease is not given back
		w.leaveSome(20 * time.Second)
		time.Sleep(5 * poll)
		w.wantEachOnce(40)
		for n, s := range []*node{b, c} {
			s.stop()
			if err := s.registry.Release(t.Context(), w.store); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				w.leaveSome(2 * poll)
				time.Sleep(2 * poll)
			}
		}
		w.wantEachOnce(50)
	})
}

// TestWhatAnotherNodeSentIsNotSentAgain: two nodes that both believe to hold the lease send an event again
// only if it still waits.
func TestWhatAnotherNodeSentIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.receiver.answer = func(d receivedTry) (int, http.Header) {
			if d.tries == 1 {
				return 500, nil
			}
			return 204, nil
		}
		always := func(context.Context) (bool, error) { return true, nil }
		w.node("a", always)
		id := w.leave("session.revoked")
		time.Sleep(3 * time.Second) // a tries again after 5 s
		w.node("b", always)
		time.Sleep(time.Minute)
		if n := len(w.receiver.tries(id)); n != 2 || len(w.waiting()) != 0 {
			t.Errorf("the event was sent %d times, and %d wait", n, len(w.waiting()))
		}
	})
}

// TestALostLeaseStopsTheTries, and the number of lost events is still reported.
func TestALostLeaseStopsTheTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.receiver.answer = func(receivedTry) (int, http.Header) { return 500, nil }
		var mu sync.Mutex
		held, fault := true, error(nil)
		set := func(h bool, err error) { mu.Lock(); defer mu.Unlock(); held, fault = h, err }
		n := w.node("a", func(context.Context) (bool, error) { mu.Lock(); defer mu.Unlock(); return held, fault })
		w.leave("session.revoked")
		time.Sleep(10 * time.Minute)
		if n.Oldest() == 0 {
			t.Error("the holder does not know how old the event is")
		}
		for _, err := range []error{nil, fmt.Errorf("the store is away")} {
			set(false, err)
			time.Sleep(2 * time.Second)
			before := len(w.receiver.tries(""))
			time.Sleep(3 * time.Hour)
			if after := len(w.receiver.tries("")); after != before || n.Oldest() != 0 {
				t.Errorf("%d tries without the lease, and the oldest event is %v old", after-before, n.Oldest())
			}
			set(true, nil)
			time.Sleep(2 * time.Second)
			if after := len(w.receiver.tries("")); after != before+1 {
				t.Errorf("%d tries after the lease came back", after-before)
			}
		}
	})
}
