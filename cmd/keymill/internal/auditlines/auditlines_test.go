package auditlines

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func openStore(t *testing.T) storage.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// decide adds n records, numbered from first. Number 0 makes the store.
func decide(t *testing.T, s storage.Store, first, n int) {
	t.Helper()
	for begin := first; begin < first+n; begin += 60 {
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			for i := begin; i < min(begin+60, first+n); i++ {
				e := audit.Event{Action: "client.add", By: "uid:0", Target: fmt.Sprint("client-", i), Detail: map[string]string{"grants": "<a>\u202e\n"}}
				if i == 0 {
					e.Action = "store.create"
				}
				if err := audit.Append(tx, noon.Add(time.Duration(i)), e); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// stored returns the lines of all records of the chain, as "keymill audit tail --all --json" prints them.
func stored(t *testing.T, s storage.Store) (lines []string) {
	t.Helper()
	for from := (audit.Cursor{}); ; {
		p, err := audit.Read(t.Context(), s, audit.Query{Forward: true, From: from, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Records {
			line, err := r.Line()
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(line))
		}
		if from = p.Next; !p.More {
			return lines
		}
	}
}

// A fakeDestination keeps lines, and fails or blocks as a test says.
type fakeDestination struct {
	mu    sync.Mutex
	lines []string
	fault error
	takes int           // lines that are taken nevertheless
	stuck chan struct{} // nil: no Write blocks
}

func (d *fakeDestination) Write(lines [][]byte) (int, error) {
	d.mu.Lock()
	stuck, fault, takes := d.stuck, d.fault, d.takes
	d.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	if fault != nil {
		lines = lines[:min(takes, len(lines))]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range lines {
		d.lines = append(d.lines, string(line))
	}
	return len(lines), fault
}

func (d *fakeDestination) set(fault error, takes int, stuck chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.takes, d.stuck = fault, takes, stuck
}

func (d *fakeDestination) got() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

// running is a Copy whose Run is running in a bubble.
type running struct {
	*Copy
	log  bytes.Buffer
	stop func()
}

func start(t *testing.T, s storage.Store, to Destination, perSecond int) *running {
	return startWith(t, Config{Store: s, To: to, PerSecond: perSecond})
}

func startWith(t *testing.T, cfg Config) *running {
	r := &running{}
	cfg.Name, cfg.Log = "/logs/audit.log", slog.New(slog.NewTextHandler(&r.log, nil))
	r.Copy = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return r
}

// after lets some seconds pass.
func after(seconds int) {
	time.Sleep(time.Duration(seconds)*time.Second + time.Millisecond)
	synctest.Wait()
}

// TestEachRecordIsWrittenOnceInItsOrder over restarts, from the first record of the store on.
func TestEachRecordIsWrittenOnceInItsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		var to fakeDestination
		made := 0
		for _, n := range []int{1, 0, pageRecords + 7, 3} {
			decide(t, s, made, n)
			made += n
			c := start(t, s, &to, 0)
			after(1)
			decide(t, s, made, 2)
			made += 2
			after(1)
			c.stop()
			decide(t, s, made, 1) // as the record of the stop
			made++
			c.Flush(t.Context())
			if got := to.got(); !slices.Equal(got, stored(t, s)) || len(got) != made || c.log.Len() != 0 || c.Warnings() != nil {
				t.Fatalf("%d lines for %d records; log: %s", len(got), made, &c.log)
			}
		}
	})
}

// TestNoFaultLosesOrRepeatsARecord: the records wait in the store, the log and the warnings say why, once.
func TestNoFaultLosesOrRepeatsARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		var to fakeDestination
		decide(t, s, 0, 5)
		c := start(t, s, &to, 0)
		defer func() { c.stop() }()
		after(1)
		to.set(os.ErrPermission, 2, nil)
		decide(t, s, 5, 10)
		after(2) // two lines are taken each time
		if got := len(to.got()); got < 7 || got > 11 {
			t.Errorf("%d lines while it fails", got)
		}
		w := c.Warnings()
		if len(w) != 1 || w[0].Check != "audit.log" || w[0].Detail != fmt.Sprintf("/logs/audit.log: permission denied; the audit records from number %d on wait in the store", len(to.got())+1) {
			t.Errorf("warnings: %v", w)
		}
		to.set(errors.New("disk full"), 0, nil)
		after(5)
		to.set(nil, 0, nil)
		after(2)
		if got := to.got(); !slices.Equal(got, stored(t, s)) || c.Warnings() != nil {
			t.Errorf("%d lines, %v", len(got), c.Warnings())
		}
		for text, n := range map[string]int{"level=ERROR": 2, "permission denied": 1, "disk full": 1, "level=INFO": 1} {
			if got := strings.Count(c.log.String(), text); got != n {
				t.Errorf("%d lines with %q, want %d: %s", got, text, n, &c.log)
			}
		}
	})
}

// TestAStuckDestinationBlocksNoEnd, and what it has taken is not written again.
func TestAStuckDestinationBlocksNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		to := fakeDestination{stuck: make(chan struct{})}
		decide(t, s, 0, 5)
		c := start(t, s, &to, 0)
		after(60)
		if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0].Detail, "has not ended in time") || strings.Count(c.log.String(), "level=ERROR") != 1 {
			t.Errorf("%v, log: %s", w, &c.log)
		}
		began := time.Now()
		c.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.Flush(ctx)
		if took := time.Since(began); took != time.Second {
			t.Errorf("the end takes %v", took)
		}
		close(to.stuck)
		to.set(nil, 0, nil)
		decide(t, s, 5, 3)
		c.Flush(t.Context())
		if got := to.got(); !slices.Equal(got, stored(t, s)) {
			t.Errorf("%d lines", len(got))
		}
	})
}

// A fullStore accepts no write while it is full.
type fullStore struct {
	storage.Store
	full atomic.Bool
}

func (s *fullStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if s.full.Load() {
		return storage.ErrUnavailable
	}
	return s.Store.Update(ctx, fn)
}

// TestAFullStoreRepeatsNoLine: while neither the chain nor the place can be written, records without a number wait, and those
// that were written are remembered by the process.
func TestAFullStoreRepeatsNoLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fullStore{Store: openStore(t)}
		var to fakeDestination
		decide(t, s, 0, 5)
		stored(t, s) // chains them
		decide(t, s, 5, 3)
		s.full.Store(true)
		c := start(t, s, &to, 0)
		after(20)
		if got := to.got(); len(got) != 5 || len(c.Warnings()) != 1 {
			t.Errorf("on a full disk: %d lines, %v", len(got), c.Warnings())
		}
		s.full.Store(false)
		after(2)
		c.stop()
		if got := to.got(); !slices.Equal(got, stored(t, s)) || len(got) != 8 || c.Warnings() != nil {
			t.Errorf("%d lines, %v", len(got), c.Warnings())
		}
	})
}

// TestLinesAreWrittenAtABoundedPace where a reader drops what comes faster.
func TestLinesAreWrittenAtABoundedPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		var to fakeDestination
		decide(t, s, 0, 120)
		c := start(t, s, &to, 50)
		for _, want := range []int{50, 100, 120} {
			after(0)
			if got := len(to.got()); got != want {
				t.Errorf("%d lines, want %d", got, want)
			}
			after(1)
		}
		c.stop()
	})
}

// TestALostPlaceBeginsAgain: a damaged place and one behind the end of the log lose no record.
func TestALostPlaceBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		decide(t, s, 0, 20)
		for place, first := range map[string]int{`{"seq":"x"}`: 0, `{"seq":0}`: 0, `{"seq":17}`: 17, `{"seq":25}`: 20} {
			if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("audit/written", []byte(place)) }); err != nil {
				t.Fatal(err)
			}
			var to fakeDestination
			c := start(t, s, &to, 0)
			after(2)
			if got := to.got(); !slices.Equal(got, stored(t, s)[first:]) {
				t.Errorf("%s: %d lines", place, len(got))
			}
			if behind := strings.Contains(c.log.String(), "ends before the last record"); behind != (first == 20) {
				t.Errorf("%s: log %s", place, &c.log)
			}
			c.stop()
		}
		if err := audit.CheckRecord("audit/written", []byte(`{"seq":0}`)); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("a place of 0 is %v", err)
		}
	})
}

// TestTheLineIsTheDocumentedSchema compares the members of a line with the table in docs/operate.md, and checks the
// chain as an outside reader does.
func TestTheLineIsTheDocumentedSchema(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "| member | type | meaning |\n| --- | --- | --- |\n")
	if !found {
		t.Fatal("docs/operate.md has no table of the members")
	}
	section, _, _ = strings.Cut(section, "\n\n")
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| ([a-z ]+)").FindAllStringSubmatch(section, -1) {
		documented[row[1]] = strings.TrimSpace(row[2])
	}
	coded := map[string]string{}
	for i := range reflect.TypeFor[audit.Record]().NumField() {
		f := reflect.TypeFor[audit.Record]().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		coded[name] = map[string]string{"uint64": "number", "time.Time": "string", "string": "string", "map[string]string": "object of strings"}[f.Type.String()]
	}
	if !reflect.DeepEqual(documented, coded) {
		t.Errorf("docs/operate.md has %v, and the code %v", documented, coded)
	}

	s := openStore(t)
	decide(t, s, 0, 3)
	previous := strings.Repeat("0", 64)
	for n, line := range stored(t, s) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || m["previous"] != previous || m["seq"] != float64(n+1) || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("line %d is %s, %v", n+1, line, err)
		}
		sum := sha256.Sum256([]byte(line))
		previous = hex.EncodeToString(sum[:])
	}
}
