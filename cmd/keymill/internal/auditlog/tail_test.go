package auditlog

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestTimesAreInstantsOrDurationsBack(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2h":                             noon.Add(-2 * time.Hour),
		"90m":                            noon.Add(-90 * time.Minute),
		"7d":                             noon.Add(-7 * 24 * time.Hour),
		"1d12h":                          noon.Add(-36 * time.Hour),
		"2026-03-01T10:00:00Z":           noon.Add(-2 * time.Hour),
		"2026-03-01T11:00:00+01:00":      noon.Add(-2 * time.Hour),
		"2026-03-01T10:00:00.000000001Z": noon.Add(-2 * time.Hour).Add(1),
	} {
		for _, flag := range []string{"since", "until"} {
			var tail Tail
			if err := tail.Select(url.Values{flag: {text}}, noon); err != nil {
				t.Errorf("--%s %s: %v", flag, text, err)
			}
			got := map[string]time.Time{"since": tail.Filter.Since, "until": tail.Filter.Until}[flag]
			if !got.Equal(want) || tail.All != (flag == "since") {
				t.Errorf("--%s %s is %v, all %v, want %v", flag, text, got, tail.All, want)
			}
		}
	}
	for _, text := range []string{"yesterday", "-2h", "2", "2026-03-01", "2026-03-01T10:00:00", "1700000000", "2 h"} {
		var tail Tail
		if err := tail.Select(url.Values{"since": {text}}, noon); err == nil {
			t.Errorf("--since %s is %v", text, tail.Filter.Since)
		}
	}
}

func TestFlagsThatContradictAreRefused(t *testing.T) {
	for name, tail := range map[string]Tail{
		"too many":        {Newest: 1001},
		"negative":        {Newest: -1},
		"-n and --all":    {Newest: 20, Bounded: true, All: true},
		"-f and --until":  {Follow: true},
		"since and until": {},
	} {
		flags := url.Values{"since": {"1h"}, "until": {"2h"}}
		if err := tail.Select(flags, noon); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	tail := Tail{Follow: true}
	if err := tail.Select(url.Values{"store": {"x"}}, noon); err == nil {
		t.Error("-f and --store: no error")
	}
}

// log makes a store with n records of each of two actions; those after chained wait.
func log(t *testing.T, n, chained int) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	add(t, s, 0, chained)
	if _, err := audit.Chain(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	add(t, s, chained, n)
	return s
}

func add(t *testing.T, s storage.Store, from, to int) {
	t.Helper()
	for first := from; first < to; first += 60 {
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			for n := first; n < min(first+60, to); n++ {
				e := audit.Event{Action: []string{"key.rotate", "user.add"}[n%2], By: "system", Target: fmt.Sprint(n)}
				if err := audit.Append(tx, noon.Add(time.Duration(n)*time.Second), e); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// printed collects the targets of what a Tail prints.
type printed []string

func (p *printed) print(records []audit.Record) error {
	for _, r := range records {
		*p = append(*p, r.Target)
	}
	return nil
}

func TestTailPrintsTheNewestOrAll(t *testing.T) {
	s := log(t, 2100, 0)
	source := func(ctx context.Context, q audit.Query) (audit.Page, error) { return audit.Read(ctx, s, q) }
	for _, tt := range []struct {
		tail        Tail
		n           int
		first, last string
	}{
		{Tail{Newest: 20}, 20, "2080", "2099"},
		{Tail{Newest: 0}, 0, "", ""},
		{Tail{Newest: 1000}, 1000, "1100", "2099"},
		{Tail{Newest: 3, Filter: audit.Filter{Action: "user"}}, 3, "2095", "2099"},
		{Tail{Newest: 1000, Filter: audit.Filter{Action: "key", Until: noon.Add(600 * time.Second)}}, 300, "0", "598"},
		{Tail{All: true}, 2100, "0", "2099"},
		{Tail{All: true, Filter: audit.Filter{Action: "key", Since: noon.Add(2001 * time.Second)}}, 49, "2002", "2098"},
	} {
		var got printed
		var notes bytes.Buffer
		tt.tail.Source, tt.tail.Print = source, got.print
		if err := tt.tail.Run(t.Context(), &notes); err != nil || len(got) != tt.n || notes.Len() > 0 {
			t.Errorf("%+v: %d records, %v %s", tt.tail, len(got), err, &notes)
		} else if tt.n > 0 && (got[0] != tt.first || got[tt.n-1] != tt.last) {
			t.Errorf("%+v: %s to %s, want %s to %s", tt.tail, got[0], got[tt.n-1], tt.first, tt.last)
		}
	}
	var got printed
	var notes bytes.Buffer
	tail := Tail{Newest: 5, Filter: audit.Filter{Action: "absent"}, Source: source, Print: got.print}
	if err := tail.Run(t.Context(), &notes); err != nil || notes.String() != "no audit record matches\n" {
		t.Errorf("%v, %s", err, &notes)
	}
}

// TestFollowingPrintsEachRecordOnce, also what could not be moved at first, and what no filter selects
// is not printed.
func TestFollowingPrintsEachRecordOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := log(t, 50, 50)
		var full atomic.Bool
		source := func(ctx context.Context, q audit.Query) (audit.Page, error) {
			var store storage.Store = s
			if full.Load() {
				store = fullStore{s}
			}
			return audit.Read(ctx, store, q)
		}
		for _, tt := range []struct {
			tail Tail
			n    int // of 50 old and 100 new records
		}{
			{Tail{Newest: 2}, 102}, {Tail{Newest: 0}, 100}, {Tail{Newest: 3, Filter: audit.Filter{Action: "user"}}, 53},
			{Tail{All: true, Filter: audit.Filter{Action: "user"}}, 75}, {Tail{Newest: 3, Filter: audit.Filter{Action: "absent"}}, 0},
		} {
			s = log(t, 50, 50)
			var got printed
			tt.tail.Follow, tt.tail.Source, tt.tail.Print = true, source, got.print
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- tt.tail.Run(ctx, &bytes.Buffer{}) }()
			time.Sleep(1500 * time.Millisecond)
			add(t, s, 50, 70)
			time.Sleep(2 * time.Second)
			full.Store(true)
			add(t, s, 70, 130)
			time.Sleep(2 * time.Second)
			full.Store(false)
			time.Sleep(2 * time.Second)
			add(t, s, 130, 150)
			time.Sleep(2 * time.Second)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if len(got) != tt.n || len(slices.Compact(slices.Sorted(slices.Values(got)))) != tt.n {
				t.Errorf("%+v: %d records, want %d", tt.tail, len(got), tt.n)
			}
		}
	})
}

// TestFollowingMissesNothingBetweenTwoPages of the newest records: what is added after the first page
// follows, and so does what had no number yet.
func TestFollowingMissesNothingBetweenTwoPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			newest, n int // of 20 old, 3 waiting and 60 new records, of which the filter selects each second one
			action    string
		}{
			{7, 38, "user"}, {6, 69, ""}, {100, 41, "user"}, {0, 31, "user"}, {5, 0, "absent"},
		} {
			s := log(t, 23, 20)
			calls := 0
			source := func(ctx context.Context, q audit.Query) (audit.Page, error) {
				var store storage.Store = s
				if calls++; calls == 1 {
					store = fullStore{s}
				}
				q.Limit = min(q.Limit, 2)
				p, err := audit.Read(ctx, store, q)
				if calls <= 3 {
					add(t, s, 23+20*(calls-1), 23+20*calls)
				}
				return p, err
			}
			var got printed
			tail := Tail{Newest: tt.newest, Follow: true, Filter: audit.Filter{Action: tt.action}, Source: source, Print: got.print}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := tail.Run(ctx, &bytes.Buffer{}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			cancel()
			if len(got) != tt.n || len(slices.Compact(slices.Sorted(slices.Values(got)))) != tt.n {
				t.Errorf("-n %d --action %q: %d records, want %d: %s", tt.newest, tt.action, len(got), tt.n, got)
			}
		}
	})
}

// A fullStore cannot be written.
type fullStore struct{ storage.Store }

func (fullStore) Update(context.Context, func(storage.Tx) error) error { return storage.ErrNoSpace }

// TestAStoreIsVerifiedWithItsMasterKeyAndItsChain.
func TestAStoreIsVerifiedWithItsMasterKeyAndItsChain(t *testing.T) {
	right, rightLine := keystore.NewMasterKey()
	_, otherLine := keystore.NewMasterKey()
	line, other := string(rightLine), string(otherLine)
	for _, tt := range []struct {
		name, key, want string
		change          func(storage.Tx) error
	}{
		{"as it was", line, "", nil},
		{"without a key", "", "no master key was given", nil},
		{"with another key", other, keystore.ErrMasterKey.Error(), nil},
		{"not a key", "x", config.ErrNotAMasterKey.Error(), nil},
		{"an edited record", line, "audit/log/00000000000000000020 is damaged", func(tx storage.Tx) error {
			return tx.Put("audit/log/00000000000000000020", []byte(`{"seq":20,"action":"forged"}`))
		}},
		{"a removed record", line, "record 20", func(tx storage.Tx) error { return tx.Delete("audit/log/00000000000000000020") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "copy.db")
			s, err := bolt.Open(path, bolt.Options{})
			if err != nil {
				t.Fatal(err)
			}
			keys := keystore.Config{
				Algorithms: []string{"EdDSA"}, RotateEvery: time.Hour, Propagation: time.Minute, MaxAge: time.Second,
				Master: right, Changed: func([]keystore.PublicKey) {},
			}
			if _, err := keystore.Create(t.Context(), s, keys, "uid:0", "0.1.0"); err != nil {
				t.Fatal(err)
			}
			rings, err := keystore.Open(t.Context(), s, keys)
			if err != nil {
				t.Fatal(err)
			}
			rings.Close()
			add(t, rings.Store(), 0, 40)
			if _, err := audit.Chain(t.Context(), rings.Store()); err != nil {
				t.Fatal(err)
			}
			add(t, rings.Store(), 40, 43) // the server was stopped before it moved these
			if tt.change != nil {
				if err := s.Update(t.Context(), tt.change); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			t.Setenv("KEYMILL_MASTER_KEY", tt.key)
			copied, err := OpenStore(t.Context(), path, &config.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer copied.Close()
			if err := copied.Unverified; (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			var out bytes.Buffer
			tail := Tail{Newest: 4, Source: copied.Read, Print: Printer{Out: &out, Unverified: copied.Unverified != nil}.Print}
			if err := tail.Run(t.Context(), &out); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			mark := strings.HasPrefix(lines[0], "unverified ")
			if len(lines) != 4 || mark != (tt.want != "") || !strings.Contains(lines[3], "- ") || !strings.HasSuffix(lines[3], " 42") || !strings.Contains(lines[1], " 40 ") || !strings.Contains(lines[0], "46 ") {
				t.Errorf("printed\n%s", &out)
			}
		})
	}
	if _, err := OpenStore(t.Context(), t.TempDir(), &config.Config{}); err == nil {
		t.Error("a directory was opened")
	}
	if _, err := OpenStore(t.Context(), filepath.Join(t.TempDir(), "x"), &config.Config{}); err == nil {
		t.Error("a missing file was opened")
	}
}

// TestOneRecordWithoutANumberHidesNoOther, wherever it is in a page.
func TestOneRecordWithoutANumberHidesNoOther(t *testing.T) {
	for _, page := range [][]uint64{{0, 1, 2, 3}, {1, 0, 2, 3}, {1, 2, 3, 0}, {0, 1, 0, 2, 0, 0, 3}} {
		var records []audit.Record
		for _, seq := range page {
			records = append(records, audit.Record{Seq: seq, Target: fmt.Sprint(seq)})
		}
		ctx, cancel := context.WithCancel(t.Context())
		source := func(_ context.Context, q audit.Query) (audit.Page, error) {
			if !q.Forward {
				return audit.Page{}, nil
			}
			cancel()
			return audit.Page{Records: slices.Clone(records), Next: audit.Cursor{Seq: 3}}, nil
		}
		var got printed
		if err := (&Tail{Follow: true, Source: source, Print: got.print}).Run(ctx, &bytes.Buffer{}); err != nil || !slices.Equal(got, printed{"1", "2", "3"}) {
			t.Errorf("of %v, %v are printed, %v", page, got, err)
		}
		cancel()
	}
}
