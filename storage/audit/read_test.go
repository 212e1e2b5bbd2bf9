package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/storage"
)

// readAll reads page by page and returns the records, oldest first.
func readAll(t *testing.T, s storage.Store, q Query) (records []Record) {
	t.Helper()
	for pages := 0; ; pages++ {
		p, err := Read(t.Context(), s, q)
		if err != nil || len(p.Records) > q.Limit || pages > 10_000 {
			t.Fatalf("%+v: page %d has %d records, %v", q, pages, len(p.Records), err)
		}
		if q.Forward {
			records = append(records, p.Records...)
		} else {
			records = append(p.Records, records...)
		}
		if !p.More {
			return records
		}
		if q.From, err = ParseCursor(p.Next.String()); err != nil || q.From != p.Next {
			t.Fatalf("%v was read back as %v, %v", p.Next, q.From, err)
		}
	}
}

func seqs(records []Record) (list []uint64) {
	for _, r := range records {
		list = append(list, r.Seq)
	}
	return list
}

// TestADecisionIsVisibleAtOnce, with its number, although no loop has moved it.
func TestADecisionIsVisibleAtOnce(t *testing.T) {
	s := openStore(t)
	for n := range 5 {
		decide(t, s, n, 1)
		for _, forward := range []bool{true, false} {
			p, err := Read(t.Context(), s, Query{Forward: forward, Limit: 10})
			if err != nil || len(p.Records) != n+1 || p.Records[n].Seq != uint64(n+1) || p.Records[n].Target != fmt.Sprint(n) || p.Last != uint64(n+1) || p.More {
				t.Fatalf("forward %v: got %+v, %v", forward, p, err)
			}
		}
	}
	decide(t, s, 5, 200) // more than one transaction moves
	if r, err := last(t.Context(), s, 1); err != nil || len(r) != 1 || r[0].Target != "204" {
		t.Errorf("got %+v, %v", r, err)
	}
	verify(t, s, 205)
}

// TestAReaderMissesNothingWhileRecordsAreMoved: it gets each record once, and every caller finds its
// own record when its decision is made.
func TestAReaderMissesNothingWhileRecordsAreMoved(t *testing.T) {
	const callers, each = 8, 40
	s := openStore(t)
	ctx, stop := context.WithCancel(t.Context())
	var calling, others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for ctx.Err() == nil {
				if _, err := Chain(ctx, s); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for c := range callers {
		calling.Go(func() {
			for n := range each {
				e := Event{Action: fmt.Sprintf("test.%d-%d", c, n)}
				at := time.Now().Add(-time.Duration(rand.IntN(1e9))) // as if the request had waited
				if err := s.Update(ctx, func(tx storage.Tx) error { return Append(tx, at, e) }); err != nil {
					t.Error(err)
				}
				p, err := Read(ctx, s, Query{Forward: n%2 == 0, Limit: 10, Filter: Filter{Action: e.Action}})
				if err != nil || len(p.Records) != 1 || p.Records[0].Seq == 0 {
					t.Errorf("%s: got %+v, %v", e.Action, p.Records, err)
				}
			}
		})
	}
	var followed []Record
	others.Go(func() {
		q := Query{Forward: true, Limit: 7}
		for last := false; ; {
			p, err := Read(t.Context(), s, q)
			if err != nil {
				t.Error(err)
				return
			}
			followed, q.From = append(followed, p.Records...), p.Next
			if !p.More && last {
				return
			}
			last = ctx.Err() != nil
		}
	})
	calling.Wait()
	stop()
	others.Wait()
	if len(followed) != callers*each {
		t.Errorf("%d records were followed, want %d", len(followed), callers*each)
	}
	for n, r := range followed {
		if r.Seq != uint64(n+1) {
			t.Fatalf("record %d has the number %d", n+1, r.Seq)
		}
	}
}

// A countingStore counts what its Views read.
type countingStore struct {
	storage.Store
	read, most int // records of all Views, and of the largest
}

func (c *countingStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	n := 0 // in the run that counts
	err := c.Store.View(ctx, func(r storage.Reader) error {
		n = 0
		return fn(countingReader{r, &n})
	})
	c.read, c.most = c.read+n, max(c.most, n)
	return err
}

type countingReader struct {
	storage.Reader
	n *int
}

func (r countingReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range r.Reader.Scan(start, end) {
			if *r.n++; !yield(e, err) {
				return
			}
		}
	}
}

// TestFiltersSelectTheSameFromBothEnds as a filter of the whole log does, and every page reads few
// records. The records are not quite in the order of their times, as in a busy server.
func TestFiltersSelectTheSameFromBothEnds(t *testing.T) {
	s := openStore(t)
	random := rand.New(rand.NewPCG(1, 2))
	events := []Event{
		{Action: "key.rotate", By: "uid:0", Target: "alice"},
		{Action: "keyring.change", By: "uid:0"},
		{Action: "session.login", By: "user:7", Target: "s1", Detail: map[string]string{"user": "7", "client": "web"}},
		{Action: "session.revoked", By: "client:web", Target: "s1", Detail: map[string]string{"user": "8", "client": "web"}},
		{Action: "client.set", By: "uid:0", Target: "web"},
		{Action: "client.set", By: "uid:0", Target: "7"},
		{Action: "user.rename", By: "uid:0", Target: "9", Detail: map[string]string{"name": "alicia", "old_name": "alice"}},
		{Action: "user.remove", By: "uid:0", Target: "7", Detail: map[string]string{"name": "bob"}},
		{Action: "token.revoke", By: "client:app", Target: "jti", Detail: map[string]string{"sub": "7"}},
	}
	const total = 3_000
	for n := 0; n < total; n += 50 {
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			for i := n; i < n+50; i++ {
				at := noon.Add(time.Duration(i) * time.Second).Add(-time.Duration(random.IntN(50)) * time.Second)
				if i == 1800 {
					at = noon // as if the wall clock had been behind
				}
				if err := Append(tx, at, events[random.IntN(len(events))]); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := Chain(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	all := readAll(t, s, Query{Forward: true, Limit: 1000})
	if len(all) != total {
		t.Fatalf("%d records", len(all))
	}
	counting := &countingStore{Store: s}
	minutes := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }
	for _, tt := range []struct {
		f    Filter
		want func(Record) bool
	}{
		{Filter{}, func(Record) bool { return true }},
		{Filter{Action: "key"}, func(r Record) bool { return r.Action == "key.rotate" }},
		{Filter{Action: "session.login"}, func(r Record) bool { return r.Action == "session.login" }},
		{Filter{Action: "session.log"}, func(Record) bool { return false }},
		{Filter{Client: "web"}, func(r Record) bool { return r.Detail["client"] == "web" || r.Target == "web" }},
		{Filter{Client: "app"}, func(r Record) bool { return r.By == "client:app" }},
		{Filter{User: "7"}, func(r Record) bool {
			return r.Detail["user"] == "7" || r.Detail["sub"] == "7" || r.Action == "user.remove"
		}},
		{Filter{User: "alice", Name: "alice"}, func(r Record) bool { return r.Action == "user.rename" }},
		{Filter{User: "bob", Name: "bob", Action: "user"}, func(r Record) bool { return r.Action == "user.remove" }},
		{Filter{Since: minutes(35)}, func(r Record) bool { return !r.Time.Before(minutes(35)) }},
		{Filter{Until: minutes(29)}, func(r Record) bool { return r.Time.Before(minutes(29)) }},
		{Filter{Since: minutes(15), Until: minutes(16), Client: "web"}, func(r Record) bool {
			return !r.Time.Before(minutes(15)) && r.Time.Before(minutes(16)) && (r.Detail["client"] == "web" || r.Target == "web")
		}},
		{Filter{Since: minutes(29), Until: minutes(31)}, func(r Record) bool { return !r.Time.Before(minutes(29)) && r.Time.Before(minutes(31)) }},
		{Filter{Since: minutes(1000)}, func(Record) bool { return false }},
		{Filter{Until: minutes(-1)}, func(Record) bool { return false }},
	} {
		want := slices.DeleteFunc(slices.Clone(all), func(r Record) bool { return !tt.want(r) })
		for _, limit := range []int{150, 1000} {
			for _, forward := range []bool{true, false} {
				counting.read, counting.most = 0, 0
				got := readAll(t, counting, Query{Filter: tt.f, Forward: forward, Limit: limit})
				if !slices.Equal(seqs(got), seqs(want)) {
					t.Errorf("%+v, forward %v, limit %d: %d records, want %d", tt.f, forward, limit, len(got), len(want))
				}
				if counting.most > maxPage+10 {
					t.Errorf("%+v, forward %v: a View read %d records", tt.f, forward, counting.most)
				}
				if narrow := !tt.f.Since.IsZero() && !tt.f.Until.IsZero(); narrow && counting.read > 3*maxPage {
					t.Errorf("%+v, forward %v: %d records were read", tt.f, forward, counting.read)
				}
			}
		}
	}
}

// TestTimesAreFoundInADisorderedLog: whatever the instants, no record is missed.
func TestTimesAreFoundInADisorderedLog(t *testing.T) {
	s := openStore(t)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 600 { // a record a second, each chained up to 50 s after its time
		at := noon.Add(time.Duration(i)*time.Second - time.Duration(random.IntN(50))*time.Second)
		if err := s.Update(t.Context(), func(tx storage.Tx) error { return Append(tx, at, Event{Action: "test"}) }); err != nil {
			t.Fatal(err)
		}
		chain(t, s, 1)
	}
	all := readAll(t, s, Query{Forward: true, Limit: 1000})
	for n := range 60 {
		f := Filter{Since: noon.Add(time.Duration(random.IntN(600)) * time.Second)}
		f.Until = f.Since.Add(time.Duration(random.IntN(200)) * time.Second)
		want := slices.DeleteFunc(slices.Clone(all), func(r Record) bool { return r.Time.Before(f.Since) || !r.Time.Before(f.Until) })
		if got := readAll(t, s, Query{Filter: f, Forward: n%2 == 0, Limit: 1000}); !slices.Equal(seqs(got), seqs(want)) {
			t.Errorf("%+v: %d records, want %d", f, len(got), len(want))
		}
	}
}

// TestAFilteredPageReadsAtMost10000Records and says where the next one begins.
func TestAFilteredPageReadsAtMost10000Records(t *testing.T) {
	const total = maxExamined + 500
	s := &countingStore{Store: openStore(t)}
	decide(t, s, 0, total)
	chain(t, s, total)
	for _, forward := range []bool{true, false} {
		s.read = 0
		q := Query{Forward: forward, Limit: 5, Filter: Filter{Action: "absent"}}
		p, err := Read(t.Context(), s, q)
		if err != nil || len(p.Records) != 0 || !p.More || s.read < maxExamined || s.read > maxExamined+100 || s.most > maxPage+10 {
			t.Errorf("forward %v: read %d, %d at once, got %+v, %v", forward, s.read, s.most, p, err)
		}
		q.From, s.read = p.Next, 0
		if p, err = Read(t.Context(), s, q); err != nil || p.More || s.read > total-maxExamined+100 {
			t.Errorf("forward %v: read %d, got %+v, %v", forward, s.read, p, err)
		}
	}
}

// A fullStore cannot be written while it is full.
type fullStore struct {
	storage.Store
	full bool
}

func (f *fullStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if f.full {
		return storage.ErrNoSpace
	}
	return f.Store.Update(ctx, fn)
}

// TestRecordsThatCannotBeMovedAreRead behind the others and without a number. A reader that goes on
// when they can be moved gets their numbers once.
func TestRecordsThatCannotBeMovedAreRead(t *testing.T) {
	for _, waiting := range []int{1, 40, 2500} {
		s := &fullStore{Store: openStore(t)}
		decide(t, s, 0, 100)
		chain(t, s, 100)
		decide(t, s, 100, waiting)
		s.full = true
		check := func(q Query, want int) {
			t.Helper()
			got := readAll(t, s, q)
			if len(got) != want {
				t.Fatalf("%+v: %d records, want %d", q, len(got), want)
			}
			for n, r := range got {
				place := 100 + waiting - want + n
				if r.Target != fmt.Sprint(place) || (r.Seq == 0) != (place >= 100) {
					t.Fatalf("%+v: record %d is %+v", q, place, r)
				}
			}
		}
		for _, limit := range []int{7, 100, 1000} {
			check(Query{Forward: true, Limit: limit}, 100+waiting)
		}
		check(Query{Forward: true, Limit: 50, Filter: Filter{Since: noon}}, 100+waiting)
		for _, n := range []int{1, 5, 60, 1000} {
			p, err := Read(t.Context(), s, Query{Limit: n})
			if err != nil || len(p.Records) != min(n, 100+waiting) || p.Records[len(p.Records)-1].Target != fmt.Sprint(99+waiting) {
				t.Fatalf("the newest %d of %d: got %d, %v", n, waiting, len(p.Records), err)
			}
		}
		q := Query{Forward: true, Limit: 101}
		p, err := Read(t.Context(), s, q)
		if err != nil || len(p.Records) != 101 || p.Records[100].Seq != 0 {
			t.Fatalf("got %d records, %v", len(p.Records), err)
		}
		s.full = false
		q.From = p.Next
		if got := readAll(t, s, q); len(got) != waiting || got[0].Seq != 101 || got[waiting-1].Seq != uint64(100+waiting) {
			t.Fatalf("moved: got %d records", len(got))
		}
	}
}

// TestADamagedLogIsRead as far as possible.
func TestADamagedLogIsRead(t *testing.T) {
	for name, damage := range map[string]func(storage.Tx) error{
		"no head":          func(tx storage.Tx) error { return tx.Delete(headKey) },
		"an odd head":      func(tx storage.Tx) error { return tx.Put(headKey, []byte("{")) },
		"an odd record":    func(tx storage.Tx) error { return tx.Put(logKey(20), []byte("{\x1b")) },
		"another number":   func(tx storage.Tx) error { return tx.Put(logKey(20), []byte(`{"seq":3,"action":"x"}`)) },
		"an inserted key":  func(tx storage.Tx) error { return tx.Put(logKey(20)+"a", []byte(`{"seq":3}`)) },
		"no number at all": func(tx storage.Tx) error { return tx.Put(logPrefix+"x", []byte(`{"seq":3}`)) },
	} {
		s := &fullStore{Store: openStore(t)}
		decide(t, s, 0, 40)
		chain(t, s, 40)
		if err := s.Update(t.Context(), damage); err != nil {
			t.Fatal(err)
		}
		s.full = true // a chain without a head would begin again
		for _, forward := range []bool{true, false} {
			got := readAll(t, s, Query{Forward: forward, Limit: 7})
			intact := 0
			for _, r := range got {
				if r.Action == "test" || r.Action == created {
					intact++
				}
			}
			if intact < 39 {
				t.Errorf("%s, forward %v: %d of the records are shown", name, forward, intact)
			}
		}
		if p, err := Read(t.Context(), s, Query{Limit: 5}); err != nil || p.Records[len(p.Records)-1].Target != "39" && name != "no number at all" {
			t.Errorf("%s: the newest are %+v, %v", name, p.Records, err)
		}
	}
}

// TestPartsOfASecondSelectTheWholeSecond, because the time of a record is a whole second.
func TestPartsOfASecondSelectTheWholeSecond(t *testing.T) {
	s := openStore(t)
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		return Append(tx, noon.Add(900*time.Millisecond), Event{Action: "test"})
	}); err != nil {
		t.Fatal(err)
	}
	second := time.Second
	for _, tt := range []struct {
		since, until time.Duration // after noon; 0 is none
		want         int
	}{
		{since: 1, want: 1}, {since: 899 * time.Millisecond, want: 1}, {since: second - 1, want: 1}, {since: second, want: 0}, {since: -1, want: 1},
		{until: 1, want: 1}, {until: 901 * time.Millisecond, want: 1}, {until: second, want: 1}, {until: -1, want: 0}, {until: -second, want: 0},
		{since: 1, until: 2, want: 1}, {since: second, until: 2 * second, want: 0}, {since: second + 1, until: second + 2, want: 0},
	} {
		var f Filter
		if tt.since != 0 {
			f.Since = noon.Add(tt.since)
		}
		if tt.until != 0 {
			f.Until = noon.Add(tt.until)
		}
		for _, forward := range []bool{true, false} {
			if got := readAll(t, s, Query{Filter: f, Forward: forward, Limit: 10}); len(got) != tt.want {
				t.Errorf("since %v, until %v, forward %v: %d records, want %d", tt.since, tt.until, forward, len(got), tt.want)
			}
		}
	}
}

// A store that fails after a few Views.
type limitedStore struct {
	storage.Store
	views int
}

func (l *limitedStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	if l.views--; l.views < 0 {
		return errors.New("too many Views")
	}
	return l.Store.View(ctx, fn)
}

// TestACursorAboveTheEndIsTheEnd: backward, the newest records are found at once.
func TestACursorAboveTheEndIsTheEnd(t *testing.T) {
	s := openStore(t)
	decide(t, s, 0, 30)
	chain(t, s, 30)
	for _, seq := range []uint64{31, 32, 1_000, 1e12, math.MaxInt64 - 1, math.MaxInt64} {
		for _, f := range []Filter{{}, {Action: "test"}, {Action: "absent"}, {Since: noon}, {Until: noon.Add(time.Hour)}} {
			for _, key := range []string{"", "20260301T120000.000000000Z-0123456789abcdef"} {
				q := Query{Filter: f, From: Cursor{seq, key}, Limit: 10}
				p, err := Read(t.Context(), &limitedStore{s, 10}, q)
				want := 10
				if f.Action == "absent" {
					want = 0
				}
				if err != nil || len(p.Records) != want || want > 0 && p.Records[9].Seq != 30 || p.Next.Seq > 21 {
					t.Errorf("%+v: got %+v, %v", q, p, err)
				}
			}
		}
	}
}

// FuzzCursor: what is accepted is written in the same way again, except for zeros, and can be used.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "0", "17", "017", "-1", "18446744073709551615", "7/20260301T120000.000000000Z-0123456789abcdef", "7/", "/x", "7/\n", "7/" + strings.Repeat("x", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err != nil {
			return
		}
		if again, err := ParseCursor(c.String()); err != nil || again != c {
			t.Fatalf("%q is %v, and then %v, %v", s, c, again, err)
		}
	})
}

// last returns the newest n records, oldest first.
func last(ctx context.Context, s storage.Store, n int) ([]Record, error) {
	p, err := Read(ctx, s, Query{Limit: n})
	return p.Records, err
}
