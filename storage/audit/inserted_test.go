package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
)

// insertions are keys that a writer of the store without the master key inserts into a log of 40 records.
func insertions() map[string][]string {
	many := func(n int, key func(int) string) (keys []string) {
		for i := range n {
			keys = append(keys, key(i))
		}
		return keys
	}
	name := func(format string) func(int) string {
		return func(i int) string { return logPrefix + fmt.Sprintf(format, i) }
	}
	number := func(first, step uint64) func(int) string {
		return func(i int) string { return logKey(first + step*uint64(i)) }
	}
	return map[string][]string{
		"a forged head":            {headKey},
		"head and last record":     {headKey, logKey(40)},
		"the next number":          {logKey(41)},
		"far behind":               {logKey(1000), logKey(1001)},
		"very far behind":          {logKey(1e9), logKey(maxSeq / 2), logKey(maxSeq/2 + 1)},
		"the highest numbers":      {logKey(maxSeq), logKey(maxSeq + 1), logKey(math.MaxInt64), logKey(math.MaxUint64)},
		"no number of 64 bits":     {logPrefix + strings.Repeat("9", 20)},
		"names":                    {logPrefix + "9", logPrefix + "x", logPrefix + "!"},
		"between records":          {logKey(20) + "x", logKey(20)[:len(logKey(20))-1], logKey(0)},
		"behind the last":          {logKey(40) + "x", logKey(41) + "x"},
		"the rest of the page":     {logKey(40 + pageRecords), logKey(41 + pageRecords), logKey(42 + pageRecords)},
		"70 names":                 many(70, name("x%02d")),
		"70 names before 41":       many(70, name(logKey(40)[len(logPrefix):]+"a%02d")),
		"70 names before 1":        many(70, name("!%02d")),
		"70 next numbers":          many(70, number(41, 1)),
		"each second number":       many(70, number(42, 2)),
		"70 high numbers":          many(70, number(maxSeq-69, 1)),
		"70 above half":            many(70, number(maxSeq/2+1, 1)),
		"head, and 70 numbers":     append(many(70, number(41, 1)), headKey),
		"head, and 1,100 names":    append(many(1100, name(logKey(20)[len(logPrefix):]+"a%04d")), headKey),
		"1,100 names in many gaps": many(1100, func(i int) string { return logKey(uint64(41+i)) + "x" }),
	}
}

// insert writes records without tags, or flips one bit of those that exist.
func insert(t *testing.T, base storage.Store, keys []string) {
	t.Helper()
	for some := range slices.Chunk(keys, 30) {
		if err := base.Update(t.Context(), func(tx storage.Tx) error {
			for _, key := range some {
				value, err := tx.Get(key)
				if err != nil {
					value = []byte(`{"seq":0}`)
				}
				value[len(value)/2] ^= 1
				if err := tx.Put(key, value); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInsertedRecordsNeverStopTheChain, whatever their keys and however many they are, and however many
// records wait. None of them is overwritten.
//
// I19, I23.
func TestInsertedRecordsNeverStopTheChain(t *testing.T) {
	for name, keys := range insertions() {
		t.Run(name, func(t *testing.T) {
			s, base := sealedStore(t)
			decide(t, s, 0, 40)
			chain(t, s, 40)
			insert(t, base, keys)
			before := stored(t, base, logPrefix, logEnd)
			decide(t, s, 40, 40)
			chain(t, s, 40)
			decide(t, s, 80, 40)
			chain(t, s, 40)
			if left := newKeys(t, base); len(left) != 0 {
				t.Errorf("%d records still wait", len(left))
			}
			after, all, highest := stored(t, base, logPrefix, logEnd), "", uint64(0)
			for key, value := range before {
				if after[key] != value {
					t.Errorf("%s was changed", key)
				}
				delete(after, key)
			}
			for key, value := range after {
				seq, isNumber := place(key)
				if !isNumber {
					t.Errorf("%s was written", key)
				}
				all, highest = all+value, max(highest, seq)
			}
			for n := 40; n < 120; n++ {
				if strings.Count(all, fmt.Sprintf(`"target":"%d"`, n)) != 1 {
					t.Errorf("record %d is not in the log once", n)
				}
			}
			if n := strings.Count(all, "audit.damaged"); n > 3 || highest > 400 {
				t.Errorf("the damage was recorded %d times, and the highest number is %d", n, highest)
			}
			if _, err := VerifyNewest(t.Context(), s); !errors.Is(err, ErrDamaged) && keys[0] != headKey {
				t.Errorf("VerifyNewest: %v", err)
			}
		})
	}
}

// TestInsertedRecordsHideNothingFromReaders: a follower that was at the end gets every later record once,
// and so do readers of the whole log from both ends. No page is empty without being the last.
//
// I19.
func TestInsertedRecordsHideNothingFromReaders(t *testing.T) {
	for name, keys := range insertions() {
		t.Run(name, func(t *testing.T) {
			s, base := sealedStore(t)
			decide(t, s, 0, 40)
			chain(t, s, 40)
			insert(t, base, keys)
			follower, followed := Cursor{Seq: 30}, []Record(nil)
			follow := func() {
				t.Helper()
				for more := true; more; {
					p, err := Read(t.Context(), s, Query{Forward: true, From: follower, Limit: 7})
					if err != nil || p.More && p.Next == follower {
						t.Fatalf("from %v: %+v, %v", follower, p.Next, err)
					}
					followed, follower, more = append(followed, p.Records...), p.Next, p.More
				}
			}
			for n := range 4 { // the first time, nothing has been added
				follow()
				again := len(followed)
				if follow(); len(followed) != again {
					t.Errorf("%d records were shown again", len(followed)-again)
				}
				decide(t, s, 40+20*n, 20)
			}
			follow()
			whole(t, "followed", followed, 31, 120, slices.Contains(keys, logKey(40)))
			for _, limit := range []int{1, 30, 1000} {
				forward := readAll(t, s, Query{Forward: true, Limit: limit})
				whole(t, "forward", forward, 1, 120, slices.Contains(keys, logKey(40)))
				backward := readAll(t, s, Query{Limit: limit})
				if !slices.Equal(seqs(forward), seqs(backward)) {
					t.Errorf("limit %d: forward and backward differ: %d and %d records", limit, len(forward), len(backward))
				}
			}
			for _, f := range []Filter{{Since: noon}, {Until: noon.Add(time.Minute)}, {Since: noon, Action: "test"}} {
				for _, forward := range []bool{true, false} {
					first := 1
					if f.Action != "" {
						first = 2 // record 1 has another action
					}
					whole(t, fmt.Sprint(f), readAll(t, s, Query{Filter: f, Forward: forward, Limit: 50}), first, 120, slices.Contains(keys, logKey(40)))
				}
			}
			for _, n := range []int{3, 119} {
				if r, err := Find(t.Context(), s, noon.Add(time.Duration(n)), "test", fmt.Sprint(n)); err != nil || r == nil {
					t.Errorf("Find %d: %v, %v", n, r, err)
				}
			}
		})
	}
}

// whole checks that the decisions from first to last, counted from 1, are among the records once and in
// their order, and that each record has a number of its own. One of them may be damaged.
func whole(t *testing.T, what string, records []Record, first, last int, damaged bool) {
	t.Helper()
	var targets []string
	for n, r := range records {
		if r.Seq == 0 || n > 0 && r.Seq <= records[n-1].Seq {
			t.Errorf("%s: record %d has the number %d", what, n, r.Seq)
		}
		if r.Action == "test" || r.Action == created {
			targets = append(targets, r.Target)
		}
	}
	var want []string
	for n := first; n <= last; n++ {
		if !damaged || n != 40 {
			want = append(want, fmt.Sprint(n-1))
		}
	}
	if !slices.Equal(targets, want) {
		t.Errorf("%s: got %d decisions, want %d: %v", what, len(targets), len(want), targets)
	}
}

// TestAGapCostsAReaderNothing: what is before it is found at once, with and without a filter.
func TestAGapCostsAReaderNothing(t *testing.T) {
	for _, seq := range []uint64{42, 1041, 1042, 1e9, maxSeq / 2, maxSeq} {
		s := openStore(t)
		decide(t, s, 0, 40)
		chain(t, s, 40)
		r := bounded(Event{Action: "test", Target: "40"})
		r.Time, r.Seq, r.Previous = noon, seq, emptyHead().Hash
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			b, err := encode(r)
			return errors.Join(err, tx.Put(logKey(seq), b))
		}); err != nil {
			t.Fatal(err)
		}
		for _, q := range []Query{
			{Limit: 50}, {Limit: 50, Forward: true}, {Limit: 50, Filter: Filter{Action: "test"}}, {Limit: 50, Filter: Filter{Since: noon}},
			{Limit: 50, Filter: Filter{Until: noon.Add(time.Hour)}}, {Limit: 50, From: Cursor{Seq: seq + 1}}, {Limit: 41, Filter: Filter{User: "7"}},
		} {
			want, first := 41, uint64(1)
			switch {
			case q.User != "":
				want = 0
			case q.Action != "":
				want, first = 40, 2 // record 1 has another action
			}
			p, err := Read(t.Context(), &limitedStore{s, 10}, q)
			if err != nil || p.More || len(p.Records) != want || want > 0 && (p.Records[0].Seq != first || p.Records[want-1].Seq != seq) {
				t.Errorf("a gap before %d, %+v: %d records, more %v, %v", seq, q, len(p.Records), p.More, err)
			}
		}
	}
}

// TestPlaces is the table of keys and places.
func TestPlaces(t *testing.T) {
	for _, tt := range []struct {
		key      string
		seq      uint64
		isNumber bool
	}{
		{logKey(1), 1, true}, {logKey(41), 41, true}, {logKey(maxSeq), maxSeq, true},
		{logKey(0), 0, false}, {logKey(maxSeq + 1), maxSeq, false}, {logKey(math.MaxUint64), maxSeq, false}, {logPrefix + strings.Repeat("9", 20), maxSeq, false},
		{logPrefix, 0, false}, {logPrefix + "!", 0, false}, {logPrefix + "x", maxSeq, false}, {logPrefix + "9", maxSeq, false}, {logPrefix + "41", maxSeq, false},
		{logKey(41) + "x", 41, false}, {logKey(41) + " ", 41, false}, {logPrefix + "0000000000000000005", 49, false}, {logPrefix + "+0000000000000000041", 0, false},
	} {
		if seq, isNumber := place(tt.key); seq != tt.seq || isNumber != tt.isNumber {
			t.Errorf("%s: got %d, %v, want %d, %v", tt.key, seq, isNumber, tt.seq, tt.isNumber)
		}
	}
}

// TestRunLogsAFaultOnce, again when it changes, and its end.
func TestRunLogsAFaultOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &failingStore{Store: openStore(t)}
		decide(t, s, 0, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, s, RunConfig{Log: slog.New(slog.NewTextHandler(&out, nil))}) }()
		for _, step := range []struct {
			err         error
			level, text string // what three seconds of it log; "" for nothing
		}{
			{storage.ErrNoSpace, "ERROR", "no space left"},
			{storage.ErrNoSpace, "", ""},
			{storage.ErrLimit, "ERROR", "limit exceeded"},
			{nil, "INFO", "again"},
			{nil, "", ""},
			{storage.ErrNoSpace, "ERROR", "no space left"},
		} {
			s.err.Store(&step.err)
			out.Reset()
			decide(t, s.Store, 1, 1)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			want := 1
			if step.level == "" {
				want = 0
			}
			if lines := strings.Count(out.String(), "\n"); lines != want || !strings.Contains(out.String(), step.text) || want > 0 && !strings.Contains(out.String(), "level="+step.level) {
				t.Errorf("%v: logged %q", step.err, &out)
			}
		}
		out.Reset()
		cancel()
		if err := <-ended; err != nil || out.Len() > 0 {
			t.Errorf("at the end: %v, %q", err, &out)
		}
	})
}

// A failingStore fails every Update with err.
type failingStore struct {
	storage.Store
	err atomic.Pointer[error]
}

func (f *failingStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if err := f.err.Load(); err != nil && *err != nil {
		return *err
	}
	return f.Store.Update(ctx, fn)
}
