package activity

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestTheLastHourIsCounted by minutes: an event is there for 60 minutes, and nothing is there from before the start.
func TestTheLastHourIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(42 * time.Second) // the start is within a minute
		r := New()
		var total uint64
		for n := range 150 {
			for range n + 1 {
				r.Add(Token)
			}
			if n%3 == 0 {
				r.Add(Refusal)
			}
			if n == 7 {
				r.Add(Reuse)
			}
			list := r.Minutes()
			if want := min(n+1, minutes); len(list) != want {
				t.Fatalf("minute %d: %d minutes, want %d", n, len(list), want)
			}
			total = 0
			for i, m := range list {
				of := n - (len(list) - 1 - i)
				refusals, reuses := uint64(0), uint64(0)
				if of%3 == 0 {
					refusals = 1
				}
				if of == 7 {
					reuses = 1
				}
				at := time.Now().UTC().Truncate(time.Minute).Add(time.Duration(of-n) * time.Minute)
				if m.Tokens != uint64(of+1) || m.Refusals != refusals || m.Reuses != reuses || !m.Begin.Equal(at) {
					t.Fatalf("in minute %d, minute %d is %+v", n, of, m)
				}
				total += m.Tokens
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(3 * time.Hour) // without an event
		for _, m := range r.Minutes() {
			if m.Tokens+m.Refusals+m.Reuses != 0 {
				t.Errorf("after three quiet hours: %+v", m)
			}
		}
	})
}

// TestNoEventIsLost when many are counted at the same time, also at the beginning of a minute.
func TestNoEventIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New()
		const workers, events = 8, 1000
		for range 3 {
			var all sync.WaitGroup
			for range workers {
				all.Go(func() {
					for range events {
						r.Add(Token)
					}
				})
			}
			all.Wait()
			list := r.Minutes()
			if got := list[len(list)-1].Tokens; got != workers*events {
				t.Errorf("%d of %d events", got, workers*events)
			}
			time.Sleep(time.Minute)
		}
	})
}
