package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
)

// newOutboxWorld is a world whose decisions leave events.
func newOutboxWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.openWithEvents()
	return w
}

// openWithEvents is what a start of the server does.
func (w *world) openWithEvents() {
	w.t.Helper()
	var err error
	if w.Issuer, err = Open(w.t.Context(), Config{URL: testURL, Store: w.store, Keys: w.keys, Events: true}); err != nil {
		w.t.Fatal(err)
	}
}

// decide leaves n events, in transactions of at most 60.
func (w *world) decide(n int) {
	w.t.Helper()
	for n > 0 {
		some := min(n, 60)
		n -= some
		err := w.store.Update(w.t.Context(), func(tx storage.Tx) error {
			for range some {
				if err := w.notify(tx, w.Issuer.keys.Now(), "session.revoked", map[string]string{"session_id": "s"}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) waiting() []Event {
	w.t.Helper()
	var all []Event
	for after := ""; ; after = all[len(all)-1].ID {
		page := must[[]Event](w.t)(w.Events(w.t.Context(), after, 1000))
		all = append(all, page...)
		if len(page) < 1000 {
			return all
		}
	}
}

// recordsOf returns the records of an action.
func (w *world) recordsOf(action string) []audit.Record {
	w.t.Helper()
	if _, err := audit.Chain(w.t.Context(), w.store); err != nil {
		w.t.Fatal(err)
	}
	all := must[[]audit.Record](w.t)(w.AuditLast(w.t.Context(), 1000))
	return slices.DeleteFunc(all, func(r audit.Record) bool { return r.Action != action })
}

// TestAnEventIsThereIfTheDecisionIs: the two share a transaction.
func TestAnEventIsThereIfTheDecisionIs(t *testing.T) {
	w := newOutboxWorld(t)
	changedMind := errors.New("changed my mind")
	for _, verdict := range []error{changedMind, nil} {
		err := w.store.Update(t.Context(), func(tx storage.Tx) error {
			if err := w.notify(tx, time.Now(), "user.revoked", nil); err != nil {
				t.Error(err)
			}
			if err := tx.Put("id/decision", []byte("made")); err != nil {
				t.Error(err)
			}
			return verdict
		})
		if !errors.Is(err, verdict) {
			t.Fatal(err)
		}
		want := 0
		if verdict == nil {
			want = 1
		}
		if got := w.waiting(); len(got) != want {
			t.Errorf("%d events after a decision that ended with %v", len(got), verdict)
		}
	}
}

// TestWhatEndsSessionsTellsTheWebhook, once, and a rotation does not.
func TestWhatEndsSessionsTellsTheWebhook(t *testing.T) {
	w := newOutboxWorld(t)
	w.web()
	w.user("alice", "7")
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		act  func(p *person) error
		want string // kind, or "" for none
		data map[string]string
	}{
		{"rotation", func(p *person) error { p.rotate(); return nil }, "", nil},
		{"replay", func(p *person) error {
			old := p.rotate()
			p.rotate()
			_, err := w.refresh(old)
			refused(t, err, "invalid_grant")
			return nil
		}, "session.replayed", map[string]string{"user_id": "7", "client_id": "web"}},
		{"one session", func(p *person) error { _, err := w.RevokeSession(ctx, p.explained(), "uid:0"); return err },
			"session.revoked", map[string]string{"user_id": "7", "client_id": "web"}},
		{"logout", func(*person) error { _, err := w.LogoutUser(ctx, "alice", "uid:0"); return err },
			"user.revoked", map[string]string{"user_id": "7"}},
		{"all of a client", func(*person) error { return w.RevokeClientSessions(ctx, "web", "uid:0") },
			"client.revoked", map[string]string{"client_id": "web"}},
	} {
		p := w.begin("7")
		session := p.explained()
		if err := tt.act(p); err != nil {
			t.Fatal(err)
		}
		got := w.waiting()
		if tt.want == "" {
			if len(got) != 0 {
				t.Errorf("%s: %s", tt.name, got[0].Payload)
			}
			continue
		}
		if len(got) != 1 || got[0].Kind != tt.want {
			t.Errorf("%s: %+v", tt.name, got)
			continue
		}
		var sent payload
		if err := json.Unmarshal(got[0].Payload, &sent); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(tt.want, "session.") {
			tt.data["session_id"] = session
		}
		for name, want := range tt.data {
			if sent.Data[name] != want {
				t.Errorf("%s: %s is %q, want %q", tt.name, name, sent.Data[name], want)
			}
		}
		if err := w.EventSent(ctx, got[0].ID); err != nil {
			t.Fatal(err)
		}
	}
}

// explained is the id of the session that the person's newest token belongs to.
func (p *person) explained() string {
	p.w.t.Helper()
	e, err := p.w.Explain(p.w.t.Context(), p.grant.Refresh)
	if err != nil || e.Session == nil {
		p.w.t.Fatalf("%+v, %v", e, err)
	}
	return e.Session.ID
}

// TestThePayloadIsShapedAsTheSpecificationSays.
func TestThePayloadIsShapedAsTheSpecificationSays(t *testing.T) {
	w := newOutboxWorld(t)
	at := time.Date(2026, 3, 1, 13, 0, 0, 5_000_000, time.FixedZone("", 3600))
	for _, data := range []map[string]string{
		{"session_id": "s", "user_id": "7"}, nil, {"user_id": strings.Repeat("é", 10_000) + "x\xff"},
	} {
		if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
			return w.notify(tx, at, "session.replayed", data)
		}); err != nil {
			t.Fatal(err)
		}
		got := w.waiting()
		if len(got) != 1 {
			t.Fatalf("%d events", len(got))
		}
		e := got[0]
		if e.Kind != "session.replayed" || !e.Time.Equal(at) {
			t.Errorf("%+v", e)
		}
		if strings.Trim(e.ID, "0123456789abcdefTZ-") != "" || !strings.HasPrefix(e.ID, "20260301T120000005000000Z-") {
			t.Errorf("id %q", e.ID)
		}
		var p map[string]json.RawMessage
		if err := json.Unmarshal(e.Payload, &p); err != nil {
			t.Fatal(err)
		}
		if len(p) != 3 || string(p["type"]) != `"session.replayed"` || string(p["timestamp"]) != `"2026-03-01T12:00:00.005Z"` ||
			!strings.HasPrefix(string(p["data"]), "{") {
			t.Errorf("payload %s", e.Payload)
		}
		if len(e.Payload) > 4096 {
			t.Errorf("a stranger's name made a payload of %d bytes", len(e.Payload))
		}
		if err := w.EventSent(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutAWebhookNoEventIsLeft(t *testing.T) {
	w := newWorld(t)
	w.decide(1)
	if got := w.waiting(); len(got) != 0 {
		t.Errorf("left %+v", got)
	}
}

// TestEventsComeOldestFirst, page by page, across a restart.
func TestEventsComeOldestFirst(t *testing.T) {
	w := newOutboxWorld(t)
	w.decide(7)
	w.restart()
	w.openWithEvents()
	var ids []string
	for after := ""; ; after = ids[len(ids)-1] {
		page := must[[]Event](t)(w.Events(t.Context(), after, 3))
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			ids = append(ids, e.ID)
		}
	}
	if len(ids) != 7 || !slices.IsSorted(ids) || len(slices.Compact(ids)) != 7 {
		t.Errorf("read %v", ids)
	}
}

// TestADroppedEventIsAudited and a sent one is not: nothing was decided about it.
func TestADroppedEventIsAudited(t *testing.T) {
	w := newOutboxWorld(t)
	w.decide(3)
	list := w.waiting()
	for range 2 { // the second time there is nothing left to forget
		if err := errors.Join(
			w.EventSent(t.Context(), list[0].ID),
			w.EventDropped(t.Context(), list[1].ID, "nobody listens"),
		); err != nil {
			t.Fatal(err)
		}
	}
	if left := w.waiting(); len(left) != 1 || left[0].ID != list[2].ID {
		t.Errorf("left %v", left)
	}
	got := w.recordsOf("webhook.drop")
	if len(got) != 1 || got[0].Target != list[1].ID || got[0].Detail["why"] != "nobody listens" ||
		got[0].Detail["kind"] != "session.revoked" || got[0].By != "system" {
		t.Errorf("audited %+v", got)
	}
	if w.used() != 1 {
		t.Errorf("%d places in use, want 1: what is forgotten twice frees one place", w.used())
	}
}

// TestAtMostTenThousandEventsWait: more are lost, and that is audited once however many
// they were, but no decision fails of it. The bound holds across a restart too.
func TestAtMostTenThousandEventsWait(t *testing.T) {
	w := newOutboxWorld(t)
	w.decide(maxEvents - 5)
	w.restart()
	w.openWithEvents()
	if lost := must[int64](t)(w.EventsLost(t.Context())); lost != 0 {
		t.Errorf("%d lost before the queue is full", lost)
	}
	w.storm(8, 50) // at the same time: a bound that is checked late is none
	if n := len(w.waiting()); n != maxEvents {
		t.Fatalf("%d wait, want %d", n, maxEvents)
	}
	for _, want := range []int64{8*50 - 5, 0} {
		if lost := must[int64](t)(w.EventsLost(t.Context())); lost != want {
			t.Errorf("%d lost, want %d", lost, want)
		}
	}
	if got := w.recordsOf("webhook.lost"); len(got) != 1 || got[0].Detail["events"] != fmt.Sprint(8*50-5) {
		t.Errorf("audited %+v", got)
	}
	// A place that is free again is used again.
	if err := w.EventSent(t.Context(), w.waiting()[0].ID); err != nil {
		t.Fatal(err)
	}
	w.decide(2)
	if n := len(w.waiting()); n != maxEvents {
		t.Errorf("%d wait, want %d", n, maxEvents)
	}
}

// storm decides times times in each of several goroutines, one event each.
func (w *world) storm(goroutines, times int) {
	w.t.Helper()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range times {
				err := w.store.Update(context.Background(), func(tx storage.Tx) error {
					return w.notify(tx, time.Now(), "session.revoked", nil)
				})
				if err != nil {
					w.t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// TestTheCountIsNeverTooLow: whatever fails, comes to nothing, is forgotten or is counted
// meanwhile, so many places are in use as events wait, or more; and once counted in peace,
// exactly so many.
func TestTheCountIsNeverTooLow(t *testing.T) {
	w := newOutboxWorld(t)
	// While events only come, the store is looked at first, and while they only go, last.
	stop := w.watch(func() (used, waiting int64) { waiting = w.stored(); return w.used(), waiting })
	var all sync.WaitGroup
	all.Go(func() { w.storm(4, 100) })
	all.Go(func() {
		for range 100 {
			w.store.Update(context.Background(), func(tx storage.Tx) error {
				w.notify(tx, time.Now(), "user.revoked", nil)
				return errors.New("no")
			})
		}
	})
	all.Wait()
	stop()
	list := w.waiting()
	stop = w.watch(func() (used, waiting int64) { used = w.used(); return used, w.stored() })
	for n := range 4 {
		all.Go(func() {
			for _, e := range list[75*n : 75*n+75] {
				if err := w.EventSent(context.Background(), e.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	stop()
	if _, err := w.EventsLost(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.used() != 100 || w.stored() != 100 {
		t.Errorf("%d places in use, %d events wait", w.used(), w.stored())
	}
}

// TestWhatIsForgottenFreesOnePlace also if it is counted between its commit and its end.
func TestWhatIsForgottenFreesOnePlace(t *testing.T) {
	w := newOutboxWorld(t)
	w.decide(2)
	slow := &lateAnswer{Store: w.store, committed: make(chan struct{}), answer: make(chan struct{})}
	w.Issuer.store = slow
	var all sync.WaitGroup
	all.Go(func() {
		if err := w.EventSent(context.Background(), w.waiting()[0].ID); err != nil {
			t.Error(err)
		}
	})
	<-slow.committed
	all.Go(func() {
		if _, err := w.EventsLost(context.Background()); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(50 * time.Millisecond) // enough to count, if nothing stood in the way
	close(slow.answer)
	all.Wait()
	if w.used() != 1 {
		t.Errorf("%d places in use, 1 event waits", w.used())
	}
}

// A lateAnswer is a store that answers its first Update some time after the commit.
type lateAnswer struct {
	storage.Store
	first             sync.Once
	committed, answer chan struct{}
}

func (s *lateAnswer) Update(ctx context.Context, fn func(storage.Tx) error) error {
	err := s.Store.Update(ctx, fn)
	first := false
	s.first.Do(func() { first = true })
	if first {
		close(s.committed)
		<-s.answer
	}
	return err
}

// watch counts again and again, until stop is called.
func (w *world) watch(look func() (used, waiting int64)) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			if _, err := w.EventsLost(w.t.Context()); err != nil {
				w.t.Error(err)
			}
			if used, waiting := look(); used < waiting {
				w.t.Errorf("%d places in use, %d events wait", used, waiting)
			}
		}
	}()
	return func() { close(end); <-ended }
}

func (w *world) used() int64 {
	_, used := w.Issuer.events.inUse()
	return used
}

func (w *world) stored() int64 {
	n, err := countEvents(w.t.Context(), w.store)
	if err != nil {
		w.t.Error(err)
	}
	return n
}

// TestADamagedEventKeepsNothingWaiting: it has no kind, and the sender drops it.
func TestADamagedEventKeepsNothingWaiting(t *testing.T) {
	w := newOutboxWorld(t)
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
		return tx.Put("webhook/20200101T000000000000000Z-0", []byte("{"))
	}); err != nil {
		t.Fatal(err)
	}
	w.decide(1)
	got := w.waiting()
	if len(got) != 2 || got[0].Kind != "" || got[1].Kind != "session.revoked" {
		t.Errorf("read %+v", got)
	}
	if err := w.EventDropped(t.Context(), got[0].ID, "damaged"); err != nil {
		t.Error(err)
	}
}

// TestAStartWithoutAReadableQueueFails instead of starting with a wrong count.
func TestAStartWithoutAReadableQueueFails(t *testing.T) {
	w := newOutboxWorld(t)
	closed, err := bolt.Open(filepath.Join(t.TempDir(), "other.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := Open(t.Context(), Config{URL: testURL, Store: closed, Keys: w.keys, Events: true}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("opened: %v", err)
	}
}
