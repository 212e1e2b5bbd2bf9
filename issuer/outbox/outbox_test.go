package outbox

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
	"keymill/storage/storagetest"
)

// A world is an Outbox over a real store.
type world struct {
	*Outbox
	t     *testing.T
	store storage.Store
	path  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "keymill.db")}
	w.open()
	t.Cleanup(func() { w.store.Close() })
	return w
}

// open does what a start of the server does.
func (w *world) open() {
	w.t.Helper()
	file, err := bolt.Open(w.path, bolt.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = storagetest.RerunningIfAsked(file)
	if w.Outbox, err = Open(w.t.Context(), Config{Store: w.store, Now: time.Now, WallTime: time.Now}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) restart() {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// decide leaves n events, in transactions of at most 60.
func (w *world) decide(n int) {
	w.t.Helper()
	for n > 0 {
		some := min(n, 60)
		n -= some
		err := w.Over(w.store).Update(w.t.Context(), func(tx storage.Tx) error {
			for range some {
				if err := w.Add(tx, time.Now(), "session.revoked", map[string]string{"session_id": "s"}); err != nil {
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
		page := w.page(after, 1000)
		all = append(all, page...)
		if len(page) < 1000 {
			return all
		}
	}
}

func (w *world) page(after string, limit int) []Event {
	w.t.Helper()
	page, err := w.Events(w.t.Context(), after, limit)
	if err != nil {
		w.t.Fatal(err)
	}
	return page
}

func (w *world) lost() int64 {
	w.t.Helper()
	n, err := w.ReportLost(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// recordsOf returns the audit records of an action.
func (w *world) recordsOf(action string) []audit.Record {
	w.t.Helper()
	if _, err := audit.Chain(w.t.Context(), w.store); err != nil {
		w.t.Fatal(err)
	}
	all, err := audit.Read(w.t.Context(), w.store, audit.Query{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(all.Records, func(r audit.Record) bool { return r.Action != action })
}

// Both are written in one transaction.
func TestAnEventIsKeptIfItsDecisionIs(t *testing.T) {
	w := newWorld(t)
	rolledBack := errors.New("rolled back")
	for _, outcome := range []error{rolledBack, nil} {
		err := w.Over(w.store).Update(t.Context(), func(tx storage.Tx) error {
			if err := w.Add(tx, time.Now(), "user.revoked", nil); err != nil {
				t.Error(err)
			}
			if err := tx.Put("id/decision", []byte("made")); err != nil {
				t.Error(err)
			}
			return outcome
		})
		if !errors.Is(err, outcome) {
			t.Fatal(err)
		}
		want := 0
		if outcome == nil {
			want = 1
		}
		if got := w.waiting(); len(got) != want {
			t.Errorf("%d events after a decision that ended with %v", len(got), outcome)
		}
	}
}

func TestPayloadsHaveTheFormOfStandardWebhooks(t *testing.T) {
	w := newWorld(t)
	at := time.Date(2026, 3, 1, 13, 0, 0, 5_000_000, time.FixedZone("", 3600))
	for _, data := range []map[string]string{
		{"session_id": "s", "user_id": "7"}, nil, {"user_id": strings.Repeat("é", 10_000) + "x\xff"},
	} {
		if err := w.Over(w.store).Update(t.Context(), func(tx storage.Tx) error {
			return w.Add(tx, at, "session.replayed", data)
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
			t.Errorf("a long name made a payload of %d bytes", len(e.Payload))
		}
		if err := w.MarkSent(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// The order holds across pages and across a restart.
func TestEventsComeOldestFirst(t *testing.T) {
	w := newWorld(t)
	w.decide(7)
	w.restart()
	var ids []string
	for after := ""; ; after = ids[len(ids)-1] {
		page := w.page(after, 3)
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

// A delivered event is not audited, because its delivery is not a decision.
func TestADroppedEventIsAudited(t *testing.T) {
	w := newWorld(t)
	w.decide(3)
	list := w.waiting()
	for range 2 { // the second time there is nothing to delete
		if err := errors.Join(
			w.MarkSent(t.Context(), list[0].ID),
			w.Drop(t.Context(), list[1].ID, "no receiver"),
		); err != nil {
			t.Fatal(err)
		}
	}
	if left := w.waiting(); len(left) != 1 || left[0].ID != list[2].ID {
		t.Errorf("left %v", left)
	}
	got := w.recordsOf("webhook.drop")
	if len(got) != 1 || got[0].Target != list[1].ID || got[0].Detail["why"] != "no receiver" ||
		got[0].Detail["kind"] != "session.revoked" || got[0].By != "system" {
		t.Errorf("audited %+v", got)
	}
	if w.used() != 1 {
		t.Errorf("%d places in use, want 1: an event that is deleted twice frees one place", w.used())
	}
}

// More events are lost, which is audited in one record however many they are, and no decision
// fails because of it. The bound holds across a restart too.
func TestAtMostTenThousandEventsWait(t *testing.T) {
	w := newWorld(t)
	w.decide(maxEvents - 5)
	w.restart()
	if lost := w.lost(); lost != 0 {
		t.Errorf("%d lost before the queue is full", lost)
	}
	w.storm(8, 50) // at the same time, so that a check before the write would be too early
	if n := len(w.waiting()); n != maxEvents || w.Waiting() != maxEvents {
		t.Fatalf("%d wait and %d are counted, want %d", n, w.Waiting(), maxEvents)
	}
	for _, want := range []int64{8*50 - 5, 0} {
		if lost := w.lost(); lost != want {
			t.Errorf("%d lost, want %d", lost, want)
		}
	}
	if got := w.recordsOf("webhook.lost"); len(got) != 1 || got[0].Detail["events"] != fmt.Sprint(8*50-5) {
		t.Errorf("audited %+v", got)
	}
	// A free place is used again.
	if err := w.MarkSent(t.Context(), w.waiting()[0].ID); err != nil {
		t.Fatal(err)
	}
	w.decide(2)
	if n := len(w.waiting()); n != maxEvents {
		t.Errorf("%d wait, want %d", n, maxEvents)
	}
}

// storm makes decisions in several goroutines, so many in each, with one event each.
func (w *world) storm(goroutines, times int) {
	w.t.Helper()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range times {
				err := w.Over(w.store).Update(context.Background(), func(tx storage.Tx) error {
					return w.Add(tx, time.Now(), "session.revoked", nil)
				})
				if err != nil {
					w.t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// At least as many places are in use as events wait, while transactions commit and fail, and
// events are deleted and counted. A count while nothing else runs gives the exact
// number.
func TestTheCountIsNeverTooLow(t *testing.T) {
	w := newWorld(t)
	// While events are only added, the store is read first; while they are only deleted, it is
	// read last. Otherwise the test would compare two different moments.
	stop := w.watch(func() (used, waiting int64) { waiting = w.stored(); return w.used(), waiting })
	var all sync.WaitGroup
	all.Go(func() { w.storm(4, 100) })
	all.Go(func() {
		for range 100 {
			w.Over(w.store).Update(context.Background(), func(tx storage.Tx) error {
				w.Add(tx, time.Now(), "user.revoked", nil)
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
				if err := w.MarkSent(context.Background(), e.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	stop()
	if _, err := w.ReportLost(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.used() != 100 || w.stored() != 100 {
		t.Errorf("%d places in use, %d events wait", w.used(), w.stored())
	}
}

// Also if events are counted between the commit of the deletion and its answer.
func TestADeletedEventFreesOnePlace(t *testing.T) {
	w := newWorld(t)
	w.decide(2)
	slow := &lateStore{Store: w.store, committed: make(chan struct{}), answer: make(chan struct{})}
	w.cfg.Store = slow
	var all sync.WaitGroup
	all.Go(func() {
		if err := w.MarkSent(context.Background(), w.waiting()[0].ID); err != nil {
			t.Error(err)
		}
	})
	<-slow.committed
	all.Go(func() {
		if _, err := w.ReportLost(context.Background()); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(50 * time.Millisecond) // enough to count, without the lock
	close(slow.answer)
	all.Wait()
	if w.used() != 1 {
		t.Errorf("%d places in use, 1 event waits", w.used())
	}
}

// A lateStore answers its first Update some time after the commit.
type lateStore struct {
	storage.Store
	first             sync.Once
	committed, answer chan struct{}
}

func (s *lateStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	err := s.Store.Update(ctx, fn)
	first := false
	s.first.Do(func() { first = true })
	if first {
		close(s.committed)
		<-s.answer
	}
	return err
}

// watch counts until stop is called.
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
			if _, err := w.ReportLost(w.t.Context()); err != nil {
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
	return w.slots.inUse()
}

func (w *world) stored() int64 {
	n, err := w.count(w.t.Context())
	if err != nil {
		w.t.Error(err)
	}
	return n
}

// TestADamagedEventBlocksNoOther: it is reported and left as it is, is not sent, and takes no slot.
//
// I23.
func TestADamagedEventBlocksNoOther(t *testing.T) {
	const id = "20200101T000000000000000Z-0000000000000000"
	good := `{"type":"session.revoked","timestamp":"2020-01-01T00:00:00Z","data":{}}`
	if err := CheckRecord(prefix+id, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "x", id + "0", strings.Replace(id, "Z-", "Z-A", 1)[:len(id)], strings.ToUpper("20200101T000000000000000Z-00000000000000ab")} {
		if err := CheckRecord(prefix+name, []byte(good)); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("the id %q: %v", name, err)
		}
	}
	for _, bad := range []string{
		"{", good + " ", `{"type":"session.revoked","timestamp":"2020-01-01T00:00:00Z","data":{},"more":1}`,
		`{"type":"","timestamp":"2020-01-01T00:00:00Z","data":{}}`, `{"type":"a","type":"b","timestamp":"2020-01-01T00:00:00Z","data":{}}`,
		`{"type":"session.revoked","timestamp":"2021-01-01T00:00:00Z","data":{}}`,
		`{"type":"session revoked","timestamp":"2020-01-01T00:00:00Z","data":{}}`,
		`{"type":"session.revoked","timestamp":"2020-01-01T00:00:00Z","data":null}`,
		`{"type":"session.revoked","timestamp":"2020-01-01T00:00:00+01:00","data":{}}`,
		`{"type":"session.revoked","timestamp":"2020-01-01T00:00:00Z","data":{"user_id":"` + strings.Repeat("x", 3*maxValue+1) + `"}}`,
	} {
		w := newWorld(t)
		var damaged []error
		w.cfg.Damaged = func(err error) { damaged = append(damaged, err) }
		if err := w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(prefix+id, []byte(bad)) }); err != nil {
			t.Fatal(err)
		}
		w.decide(1)
		got := w.waiting()
		if len(got) != 1 || got[0].Kind != "session.revoked" || got[0].ID == id || len(damaged) != 1 || !errors.Is(damaged[0], storage.ErrDamaged) {
			t.Errorf("%s: read %+v, reported %v", bad, got, damaged)
		}
		if err := errors.Join(w.MarkSent(t.Context(), id), w.Drop(t.Context(), id, "test")); err != nil {
			t.Error(err)
		}
		if n, err := w.count(t.Context()); n != 1 || err != nil {
			t.Errorf("%s: %d events are counted, %v", bad, n, err)
		}
		var raw []byte
		if err := w.store.View(t.Context(), func(r storage.Reader) (err error) {
			raw, err = r.Get(prefix + id)
			return err
		}); err != nil || string(raw) != bad {
			t.Errorf("%s became %s, %v", bad, raw, err)
		}
	}
}

// An Outbox must not start with a wrong count.
func TestOpenFailsIfTheEventsCannotBeRead(t *testing.T) {
	closed, err := bolt.Open(filepath.Join(t.TempDir(), "other.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := Open(t.Context(), Config{Store: closed, Now: time.Now, WallTime: time.Now}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("opened: %v", err)
	}
}
