package issuer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/nodes"
)

// another opens a second Issuer over the store of w, as another server does.
func (w *world) another(change ...func(*Config)) *Issuer {
	w.t.Helper()
	cfg := Config{URL: testURL, Store: w.store, Keys: w.keys}
	for _, f := range change {
		f(&cfg)
	}
	return must[*Issuer](w.t)(Open(w.t.Context(), cfg))
}

// withoutCleanUp stops the clean-up of the bubble's server, and not its clocks.
func (a *bubble) withoutCleanUp() {
	a.stop()
	a.done.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	a.done.Go(func() { a.keys.Run(ctx) })
}

// A sweepStore counts the transactions that write.
type sweepStore struct {
	storage.Store
	mu      sync.Mutex
	updates int
}

func (s *sweepStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	s.mu.Lock()
	s.updates++
	s.mu.Unlock()
	return s.Store.Update(ctx, fn)
}

// TestOneServerCleansUp, and another one takes over when it ends.
func TestOneServerCleansUp(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		a.withoutCleanUp()
		a.web(func(c *api.NewClient) { c.Idle, c.Absolute = "1m", "1m" })
		a.user("alice", "7")
		var stores []*sweepStore
		var stop []context.CancelFunc
		var ended sync.WaitGroup
		for _, id := range []string{"a", "b"} {
			r, s := nodes.New(nodes.Config{ID: id}), &sweepStore{Store: a.store}
			i := a.another(func(c *Config) { c.Store, c.Hold = s, r.Lease(a.store, "sweep") })
			ctx, cancel := context.WithCancel(t.Context())
			ended.Go(func() { i.Run(ctx) })
			synctest.Wait()
			stores, stop = append(stores, s), append(stop, cancel)
		}
		defer ended.Wait()
		defer stop[1]()
		opened := stores[1].updates
		for range 20 {
			a.begin("7")
		}
		time.Sleep(3 * time.Minute)
		if n := a.records("family/"); n > 0 || stores[1].updates > opened {
			t.Errorf("%d sessions are left, and the second server wrote %d times", n, stores[1].updates-opened)
		}
		stop[0]()
		a.begin("7")
		time.Sleep(3 * time.Minute)
		if n := a.records("family/"); n > 0 || stores[1].updates == opened {
			t.Errorf("after the first server ended, %d sessions are left", n)
		}
	})
}

// TestTwoServersMayCleanUpAtOnce: the second one finds entries that the first one has handled.
func TestTwoServersMayCleanUpAtOnce(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.withoutCleanUp()
		a.web()
		a.user("alice", "7")
		var people []*person
		for range 3 {
			people = append(people, a.begin("7"))
		}
		time.Sleep(DefaultIdle - time.Hour)
		people[0].rotate()
		time.Sleep(6 * time.Hour)
		now := a.keys.ErasureTime()
		first := a.another()
		entries, err := a.dueEntries(t.Context(), "due/", now)
		if err != nil || len(entries) != 4 { // one of them is of the tally

			t.Fatal(entries, err)
		}
		if err := first.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		people[0].rotate() // so the second server would choose another time
		after := must[[]string](t)(a.dueKeys())
		if err := a.store.Update(t.Context(), func(tx storage.Tx) (err error) {
			for _, e := range entries {
				err = errors.Join(err, a.processDue(tx, e, now))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if got := must[[]string](t)(a.dueKeys()); !slices.Equal(got, after) {
			t.Errorf("a second server changed the index from %v to %v", after, got)
		}
	})
}

// dueKeys returns the keys of the index of the clean-up.
func (i *Issuer) dueKeys() (keys []string, err error) {
	err = i.store.View(context.Background(), func(r storage.Reader) error {
		keys = nil
		for e, err := range r.Scan("due/", "due0") {
			if err != nil {
				return err
			}
			keys = append(keys, e.Key)
		}
		return nil
	})
	return keys, err
}

// TestRefusalsNameTheServer, because each counts its own.
func TestRefusalsNameTheServer(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"", "a", "b"} {
		i := w.another(func(c *Config) { c.Node = name })
		if err := i.AuditRefusals(t.Context(), map[string]int{"wrong_password": 3}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, r := range w.audited() {
		if r.Action == "login.refused" {
			if name, ok := r.Detail["node"]; ok == (name == "") {
				t.Errorf("detail %v", r.Detail)
			}
			got = append(got, r.Detail["node"])
		}
	}
	if slices.Sort(got); !slices.Equal(got, []string{"", "a", "b"}) {
		t.Errorf("records of %q", got)
	}
}
