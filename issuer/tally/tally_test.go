package tally

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// A world is a store and the clean-up that calls Check.
type world struct {
	t     *testing.T
	store storage.Store
	now   time.Time
	due   map[string]time.Time // name of a record → when Check has to be called
}

func newWorld(t *testing.T) *world {
	store, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &world{t, storagetest.RerunningIfAsked(store), time.Date(2027, 1, 31, 12, 0, 0, 5, time.UTC), map[string]time.Time{}}
}

// times has a decision clock that is ahead, as after a downtime.
func (w *world) times() Times { return Times{w.now.Add(5 * time.Hour), w.now} }

// append appends n events of one kind, step apart, up to 20 in a transaction.
func (w *world) append(of Of, action string, n int, step time.Duration) (own int) {
	w.t.Helper()
	for n > 0 {
		kept, began, check := 0, w.now, time.Time{}
		batch := min(n, 20, 1+int(30*time.Second/(step+1))) // the clean-up comes every few seconds
		err := w.store.Update(w.t.Context(), func(tx storage.Tx) error {
			kept, w.now = 0, began
			for range batch {
				own, next, err := Append(tx, w.times(), of, audit.Event{Action: action, By: "user:" + of.User, Target: "target"})
				if err != nil {
					return err
				}
				if !next.IsZero() {
					check = next
				}
				if own {
					kept++
				}
				w.now = w.now.Add(step)
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if !check.IsZero() {
			w.due[of.Name()] = check
		}
		w.cleanUp()
		n, own = n-batch, own+kept
	}
	return own
}

// cleanUp calls Check for what is due, in whole seconds as the index has them.
func (w *world) cleanUp() {
	w.t.Helper()
	for name, at := range w.due {
		if w.now.Before(at.Truncate(time.Second)) {
			continue
		}
		var next time.Time
		if err := w.store.Update(w.t.Context(), func(tx storage.Tx) (err error) {
			next, err = Check(tx, w.times(), name)
			return err
		}); err != nil {
			w.t.Fatal(err)
		}
		if delete(w.due, name); !next.IsZero() {
			w.due[name] = next
		}
	}
}

// pass lets time pass. The clean-up comes every ten seconds.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(10 * time.Second)
		w.cleanUp()
	}
}

// audited returns the records of an action, with the aggregated ones, and how many events both are.
func (w *world) audited(of Of, action string) (own, many, events int) {
	w.t.Helper()
	page, err := audit.Read(w.t.Context(), w.store, audit.Query{Limit: 1000})
	if err != nil || page.More {
		w.t.Fatalf("%v, more: %v", err, page.More)
	}
	for _, r := range page.Records {
		switch {
		case r.Action == action && r.By == "user:"+of.User:
			own, events = own+1, events+1
		case r.Action == "session.many" && r.Detail["user"] == of.User && r.Detail["client"] == of.Client:
			n, _ := strconv.Atoi(r.Detail[action])
			if events += n; n > 0 {
				many++
			}
			if since, err := time.Parse(time.RFC3339, r.Detail["since"]); err != nil || r.Time.Sub(since) > 2*time.Minute {
				w.t.Errorf("the record %+v is about more than a minute", r)
			}
		}
	}
	return own, many, events
}

func (w *world) tallies() (n int) {
	w.t.Helper()
	if err := w.store.View(w.t.Context(), func(r storage.Reader) error {
		n = 0
		for _, err := range r.Scan("tally/", "tally0") {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}

var alice = Of{"7", "web"}

// TestEveryEventIsInARecordOrInACount: no event is lost, and none is counted twice.
//
// I19.
func TestEveryEventIsInARecordOrInACount(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		events int
		step   time.Duration
		many   int // aggregated records, at most
	}{
		{Kept, time.Second, 0},            // up to the bound each has its own
		{1000, 100 * time.Millisecond, 3}, // 100 seconds of a flood
		{1, time.Minute, 4},               // and a late one
	} {
		w.append(alice, "session.login", tt.events, tt.step)
		w.pass(2 * time.Minute)
		if own, many, _ := w.audited(alice, "session.login"); own != Kept || many > tt.many {
			t.Errorf("after %d events more there are %d records and %d with counts, want %d and at most %d", tt.events, own, many, Kept, tt.many)
		}
	}
	if _, _, events := w.audited(alice, "session.login"); events != Kept+1000+1 {
		t.Errorf("the records speak of %d events, want %d", events, Kept+1000+1)
	}
}

// TestAFloodOfOneKindHidesNoOther: nor that of one user or client another's.
func TestAFloodOfOneKindHidesNoOther(t *testing.T) {
	w := newWorld(t)
	w.append(alice, "session.login", 2*Kept, 0)
	for _, tt := range []struct {
		of     Of
		action string
	}{
		{alice, "session.replay"}, {alice, "session.late_retry"}, {alice, "session.logout"}, {alice, "token.revoke"},
		{Of{"8", "web"}, "session.login"}, {Of{"7", "app"}, "session.login"}, {Of{"", "web"}, "session.login"},
	} {
		if own := w.append(tt.of, tt.action, 3, 0); own != 3 {
			t.Errorf("%v %s: %d of 3 have a record", tt.of, tt.action, own)
		}
	}
	w.append(alice, "session.replay", Kept, 0)
	w.pass(2 * time.Minute)
	if own, _, events := w.audited(alice, "session.replay"); own != Kept || events != Kept+3 {
		t.Errorf("%d records of %d replays", own, events)
	}
}

// TestRecordsOfAnHourAreBounded: whatever a user does, over hours, and no tally stays.
//
// I30.
func TestRecordsOfAnHourAreBounded(t *testing.T) {
	w := newWorld(t)
	const hours, each = 3, 300
	w.append(alice, "session.login", hours*each, time.Hour/each)
	own, many, events := w.audited(alice, "session.login")
	t.Logf("%d events in %d hours leave %d records, and %d with counts", hours*each, hours, own, many)
	if own > hours*Kept || many > hours*61 || events < hours*each-10 {
		t.Errorf("%d events: %d records and %d with counts", events, own, many)
	}
	if n := w.tallies(); n > 1 {
		t.Errorf("%d tallies of one user", n)
	}
	w.pass(time.Minute)
	w.pass(time.Hour)
	if _, _, events := w.audited(alice, "session.login"); events != hours*each || w.tallies() != 0 || len(w.due) != 0 {
		t.Errorf("%d events, %d tallies and %d entries of the index are left", events, w.tallies(), len(w.due))
	}
}

// TestATransactionThatFailsCountsNothing: the count and the change are one write.
func TestATransactionThatFailsCountsNothing(t *testing.T) {
	w := newWorld(t)
	w.append(alice, "session.login", Kept+5, 0)
	failed := errors.New("the login failed")
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
		if own, _, err := Append(tx, w.times(), alice, audit.Event{Action: "session.login"}); own || err != nil {
			t.Errorf("the event has a record: %v, %v", own, err)
		}
		return failed
	}); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	if _, _, events := w.audited(alice, "session.login"); events != Kept+5 {
		t.Errorf("the records speak of %d events, want %d", events, Kept+5)
	}
}

// TestANameLeadsToOneUserAndClient: ids hold slashes and spaces.
func TestANameLeadsToOneUserAndClient(t *testing.T) {
	seen := map[string]Of{}
	for _, user := range []string{"", "7", "7/web", "a b", "01/a", "00//"} {
		for _, client := range []string{"web", "b/web", "a b/c", "/c"} {
			of := Of{user, client}
			got, ok := Parse(of.Name())
			if !ok || got != of {
				t.Errorf("%q is read as %+v, %v", of.Name(), got, ok)
			}
			if other, taken := seen[of.Name()]; taken {
				t.Errorf("%+v and %+v share a record", of, other)
			}
			seen[of.Name()] = of
		}
	}
	for _, name := range []string{"", "0", "x7/7/web", "01/", "99/7/web", "1/7/web", "-1/7/web", "01/7web", "01-7/web"} {
		if of, ok := Parse(name); ok {
			t.Errorf("%q is read as %+v", name, of)
		}
	}
}

// TestATallyThatNoCodeWritesIsDamage, for its check and for an event that needs it, which writes nothing.
//
// I23.
func TestATallyThatNoCodeWritesIsDamage(t *testing.T) {
	w := newWorld(t)
	w.append(alice, "session.login", Kept+1, 0)
	whole := w.record(alice)
	key := prefix + alice.Name()
	if err := CheckRecord(key, marshal(t, whole)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*record){
		"no beginning":         func(r *record) { r.Began = time.Time{} },
		"a far beginning":      func(r *record) { r.Began, r.Check = r.Began.AddDate(7000, 0, 0), r.Check.AddDate(7000, 0, 0) },
		"no check":             func(r *record) { r.Check = time.Time{} },
		"a check after it all": func(r *record) { r.Check = r.Began.Add(window + 1) },
		"no event":             func(r *record) { r.Kept, r.More, r.Since = map[string]int{}, nil, time.Time{} },
		"null":                 func(r *record) { r.Kept, r.More, r.Since = nil, nil, time.Time{} },
		"an unnamed event":     func(r *record) { r.Kept[""] = 1 },
		"zero events":          func(r *record) { r.Kept["x"] = 0 },
		"too many events":      func(r *record) { r.Kept["x"] = Kept + 1 },
		"a negative count":     func(r *record) { r.More["session.login"] = -1 },
		"a zero count":         func(r *record) { r.More["session.login"] = 0 },
		"counted too early":    func(r *record) { r.Kept["x"], r.More["x"] = Kept-1, 1 },
		"counted from nothing": func(r *record) { r.More["x"] = 1 },
		"counted since never":  func(r *record) { r.Since = time.Time{} },
		"a far count":          func(r *record) { r.Since = r.Since.AddDate(7000, 0, 0) },
		"since without counts": func(r *record) { r.More = nil },
	} {
		rec := w.record(alice)
		change(rec)
		raw := marshal(t, rec)
		if err := CheckRecord(key, raw); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: it is accepted: %v", name, err)
		}
		if err := w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, raw) }); err != nil {
			t.Fatal(err)
		}
		if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
			_, _, err := Append(tx, w.times(), alice, audit.Event{Action: "session.login"})
			return err
		}); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: an event: %v", name, err)
		}
		if err := w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, marshal(t, whole)) }); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) record(of Of) (rec *record) {
	w.t.Helper()
	if err := w.store.View(w.t.Context(), func(r storage.Reader) (err error) { rec, err = read(r, of.Name()); return err }); err != nil {
		w.t.Fatal(err)
	}
	return rec
}

func marshal(t *testing.T, rec *record) []byte {
	t.Helper()
	raw, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
