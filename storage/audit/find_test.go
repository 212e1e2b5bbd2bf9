package audit

import (
	"fmt"
	"testing"
	"time"

	"keymill/storage"
)

// events appends n records, a second apart, and returns the time of each.
func events(t *testing.T, s storage.Store, n int) []time.Time {
	t.Helper()
	var times []time.Time
	for begin := 0; begin < n; begin += 60 {
		err := s.Update(t.Context(), func(tx storage.Tx) error {
			times = times[:begin]
			for i := begin; i < min(begin+60, n); i++ {
				at := noon.Add(time.Duration(i) * time.Second)
				times = append(times, at)
				if err := Append(tx, at, Event{Action: "session.login", By: "user:7", Target: fmt.Sprint("session ", i, "."), Detail: map[string]string{"n": fmt.Sprint(i)}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return times
}

func (w *finder) want(n int, at time.Time, found bool) {
	w.t.Helper()
	r, err := Find(w.t.Context(), w.s, at, "session.login", fmt.Sprint("session ", n, "."))
	if err != nil || (r != nil) != found || found && r.Detail["n"] != fmt.Sprint(n) {
		w.t.Errorf("record %d: found %+v, %v", n, r, err)
	}
}

type finder struct {
	t *testing.T
	s storage.Store
}

// TestFindReturnsTheRecordOfADecision wherever it is: chained, not yet, and in the middle of a long chain.
func TestFindReturnsTheRecordOfADecision(t *testing.T) {
	w := &finder{t, openStore(t)}
	w.want(0, noon, false) // an empty log
	times := events(t, w.s, 500)
	for _, n := range []int{0, 1, 250, 499} {
		w.want(n, times[n], true)
	}
	chain(t, w.s, 500)
	for _, n := range []int{0, 1, 7, 250, 498, 499} {
		w.want(n, times[n], true)
		w.want(n, times[n].Add(-time.Second), true) // the decision came a little later
		w.want(n, times[n].Add(time.Hour), false)
	}
	w.want(500, times[499], false)
	if r, err := Find(t.Context(), w.s, times[3], "session.replay", "session 3."); r != nil || err != nil {
		t.Errorf("another action: %+v, %v", r, err)
	}
}

// TestFindNeedsNoOrderWithinSeconds: a decision whose commit takes long is chained after later ones.
func TestFindNeedsNoOrderWithinSeconds(t *testing.T) {
	w := &finder{t, openStore(t)}
	times := events(t, w.s, 100)
	chain(t, w.s, 100)
	late := times[99].Add(-4 * time.Second)
	if err := w.s.Update(t.Context(), func(tx storage.Tx) error {
		return Append(tx, late, Event{Action: "session.login", By: "user:7", Target: "session 100.", Detail: map[string]string{"n": "100"}})
	}); err != nil {
		t.Fatal(err)
	}
	chain(t, w.s, 1)
	w.want(100, late, true)
	w.want(99, times[99], true)
}

// TestFindLivesWithAChainWhoseBeginningIsGone and with records that it cannot read.
func TestFindLivesWithAChainWhoseBeginningIsGone(t *testing.T) {
	w := &finder{t, openStore(t)}
	times := events(t, w.s, 100)
	chain(t, w.s, 100)
	if err := w.s.Update(t.Context(), func(tx storage.Tx) error {
		for seq := range uint64(40) {
			if err := tx.Delete(logKey(seq + 1)); err != nil {
				return err
			}
		}
		return tx.Put(logKey(60), []byte("broken"))
	}); err != nil {
		t.Fatal(err)
	}
	w.want(30, times[30], false)
	w.want(40, times[40], true)
	w.want(99, times[99], true)
}
