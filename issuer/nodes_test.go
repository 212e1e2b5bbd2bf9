package issuer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/bolt"
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

// TestHoldersAtTwoServersAreFound: one refreshes here, and the other fetches the successor there, in turn.
func TestHoldersAtTwoServersAreFound(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	servers := []*Issuer{w.another(), w.another()}
	refresh := func(i *Issuer, token refusal.Secret, from netip.Addr) Grant {
		return must[Grant](t)(i.Token(t.Context(), TokenRequest{
			GrantType: "refresh_token", Client: Credentials{ClientID: "web", Method: "none"}, Refresh: token, From: from,
		}))
	}
	for n := range 6 {
		old := p.grant.Refresh
		p.grant = refresh(servers[n%2], old, home)
		if again := refresh(servers[1-n%2], old, cafe); again.Refresh != p.grant.Refresh {
			t.Fatal("two successors")
		}
	}
	if s := p.session(); !s.Shared || s.Graced != 6 {
		t.Errorf("the session is %+v, want a shared one with 6 answers in grace", s)
	}
	w.wantAudited("session.shared", 1)

	// After a pause to the same holder only, an earlier count does not go on.
	q := w.begin("7")
	for n := range 8 {
		old := q.grant.Refresh
		q.grant = refresh(servers[n%2], old, home)
		if n != 4 {
			refresh(servers[1-n%2], old, cafe)
		}
	}
	if q.session().Shared {
		t.Error("four and three generations look like five in a row")
	}
}

// TestEachAnswerThatWentElsewhereIsRecorded, whichever server gave it.
func TestEachAnswerThatWentElsewhereIsRecorded(t *testing.T) {
	w := newWorld(t)
	w.web(func(c *api.NewClient) { c.Grace = "10m" })
	w.user("alice", "7")
	p := w.begin("7")
	old := p.rotate()
	var all sync.WaitGroup
	for range 2 {
		i := w.another()
		for range 10 {
			all.Go(func() {
				for range 50 {
					g, err := i.Token(context.Background(), TokenRequest{
						GrantType: "refresh_token", Client: Credentials{ClientID: "web", Method: "none"}, Refresh: old, From: cafe,
					})
					if err != nil || g.Refresh != p.grant.Refresh {
						t.Errorf("got %v, want the successor", err)
					}
				}
			})
		}
	}
	all.Wait()
	if s := p.session(); s.Graced != 1000 || s.Generation != 1 {
		t.Errorf("%d answers are recorded in generation %d, want 1,000 in the first", s.Graced, s.Generation)
	}
	w.restart()
	p.rotate()
	if s := p.session(); s.Graced != 1000 {
		t.Errorf("after a restart and a rotation, %d answers are recorded", s.Graced)
	}
}

// TestARetryToTheSameAddressWritesNothing: only an answer that goes elsewhere does.
func TestARetryToTheSameAddressWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	old := p.rotate()
	w.wantUnchanged("a retry to the same address", func() { must[Grant](t)(w.refresh(old)) })
}

// TestTheCleanUpEndsWithItsStoreAndLogsNothing: the process says why it ends. The watch of pauses ends too.
func TestTheCleanUpEndsWithItsStoreAndLogsNothing(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.end()
		file := must[*bolt.Store](t)(bolt.Open(a.path, bolt.Options{}))
		cfg := testKeys
		cfg.Algorithms, cfg.Nodes = []string{"EdDSA"}, nodes.New(nodes.Config{ID: "a"})
		keys := must[*keystore.Rings](t)(keystore.Open(t.Context(), file, cfg))
		var log bytes.Buffer
		i := must[*Issuer](t)(Open(t.Context(), Config{URL: testURL, Store: keys.Store(), Keys: keys, Log: slog.New(slog.NewTextHandler(&log, nil))}))
		file.Close()
		if err := i.Run(t.Context()); !errors.Is(err, storage.ErrClosed) || log.Len() > 0 {
			t.Errorf("Run returned %v and logged %s", err, &log)
		}
	})
}
