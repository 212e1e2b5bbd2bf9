package issuer

import (
	"context"
	"iter"
	"testing"
	"time"

	"keymill/issuer/sessionlist"
	"keymill/storage"
	"keymill/storage/storagetest"
)

// A tripStore counts what takes a round trip on a store of the network that has nothing in memory: each read, and each
// transaction. It is not safe for concurrent use.
type tripStore struct {
	storage.Store
	trips int
	most  int // reads of one transaction
}

func (s *tripStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	before := s.trips
	s.trips++
	return s.Store.View(ctx, func(r storage.Reader) error {
		defer func() { s.most = max(s.most, s.trips-before-1) }()
		return fn(tripReader{r, s})
	})
}

func (s *tripStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	before := s.trips
	s.trips++
	return s.Store.Update(ctx, func(tx storage.Tx) error {
		defer func() { s.most = max(s.most, s.trips-before-1) }()
		return fn(tripTx{tx, tripReader{tx, s}})
	})
}

// during returns how many trips and how many reads of one transaction act needs.
func (s *tripStore) during(act func()) (trips, most int) {
	s.trips, s.most = 0, 0
	act()
	return s.trips, s.most
}

type tripReader struct {
	storage.Reader
	store *tripStore
}

func (r tripReader) Get(key string) ([]byte, error) { r.store.trips++; return r.Reader.Get(key) }

func (r tripReader) GetAll(keys ...string) ([][]byte, error) {
	r.store.trips++
	return r.Reader.GetAll(keys...)
}

func (r tripReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	r.store.trips++
	return r.Reader.Scan(start, end)
}

type tripTx struct {
	storage.Tx
	reader tripReader
}

func (t tripTx) Get(key string) ([]byte, error)                   { return t.reader.Get(key) }
func (t tripTx) GetAll(keys ...string) ([][]byte, error)          { return t.reader.GetAll(keys...) }
func (t tripTx) Scan(a, b string) iter.Seq2[storage.Entry, error] { return t.reader.Scan(a, b) }

// onTrips opens the Issuer of w again, on a tripStore.
func (w *world) onTrips() *tripStore {
	w.t.Helper()
	storagetest.SkipIfRerunning(w.t, "reads are counted")
	s := &tripStore{Store: w.store}
	var err error
	if w.Issuer, err = Open(w.t.Context(), Config{URL: testURL, Store: s, Keys: w.keys}); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// TestALoginReadsAFullListInFewTrips: at most three times as many as a login without sessions, also if many sessions
// have ended.
func TestALoginReadsAFullListInFewTrips(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.withPassword("alice", "7", testPassword, djangoHash)
		trips := a.onTrips()
		login := func() (Grant, error) { return a.login("alice", testPassword) }
		must[Grant](t)(login()) // it hashes the password again
		first, _ := trips.during(func() { must[Grant](t)(login()) })
		for range sessionlist.Max {
			a.begin("7")
			time.Sleep(time.Second)
		}
		for _, state := range []string{"full", "full, and as many have ended"} {
			full, _ := trips.during(func() { must[Grant](t)(login()) })
			if full > 3*first {
				t.Errorf("%s: a login takes %d trips, and %d without sessions", state, full, first)
			}
			for range sessionlist.MaxEnded + 5 {
				p := a.begin("7")
				if err := a.Revoke(t.Context(), Credentials{ClientID: "web", Method: "none"}, p.grant.Refresh, home); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestARefreshReadsInFewSteps: its client, session, and epoch, then its user, then its audience; and terms once.
func TestARefreshReadsInFewSteps(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	trips := w.onTrips()
	for n, want := range []int{4, 3} {
		if _, most := trips.during(func() { p.rotate() }); most > want {
			t.Errorf("refresh %d reads in %d steps, want at most %d", n, most, want)
		}
	}
	old := p.grant.Refresh
	if _, most := trips.during(func() {
		p.grant = must[Grant](t)(w.refresh(old, func(r *TokenRequest) { r.Audience = "orders" }))
	}); most > 2 {
		t.Errorf("a refresh that names its audience reads in %d steps", most)
	}
}

// TestManySessionsAreReadTogether where they are listed, looked for and cleaned up.
func TestManySessionsAreReadTogether(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.withoutCleanUp()
		a.web()
		a.user("alice", "7")
		for range sweepBatch {
			a.begin("7")
		}
		trips := a.onTrips()
		for name, tt := range map[string]struct {
			act  func()
			want int
		}{
			"of a user": {func() { must[any](t)(a.Sessions(t.Context(), SessionQuery{User: "7", Limit: 100})) }, 4},
			"of all":    {func() { must[any](t)(a.Sessions(t.Context(), SessionQuery{Limit: 100})) }, 4},
			"live":      {func() { must[bool](t)(a.HasLiveSession(t.Context(), "web")) }, 4},
		} {
			if _, most := trips.during(tt.act); most > tt.want {
				t.Errorf("%s: %d reads in one transaction, want at most %d", name, most, tt.want)
			}
		}
		time.Sleep(DefaultAbsolute + 24*time.Hour)
		if _, most := trips.during(func() {
			if err := a.sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}); most < 3 || most > 5 || a.records("family/") > 0 {
			t.Errorf("the clean-up reads %d times in one transaction, and leaves %d sessions", most, a.records("family/"))
		}
	})
}

// TestAClientIsLinkedInFewTrips, however many origins it has.
func TestAClientIsLinkedInFewTrips(t *testing.T) {
	w := newWorld(t)
	w.web()
	trips := w.onTrips()
	few, _ := trips.during(func() { must[any](t)(w.origins(w.Issuer, "https://a.example")) })
	many, _ := trips.during(func() {
		must[any](t)(w.origins(w.Issuer, "https://b.example", "https://c.example", "https://d.example", "https://e.example"))
	})
	if many > few {
		t.Errorf("4 origins take %d trips, and one %d", many, few)
	}
}
