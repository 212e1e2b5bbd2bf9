package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func openStore(t *testing.T) storage.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return storagetest.RerunningIfAsked(s)
}

// decide appends n events in transactions of at most 60. They are numbered from first and
// one nanosecond apart. Number 0 makes the store.
func decide(t *testing.T, s storage.Store, first, n int) {
	t.Helper()
	for begin := first; begin < first+n; begin += 60 {
		err := s.Update(t.Context(), func(tx storage.Tx) error {
			for i := begin; i < min(begin+60, first+n); i++ {
				action := "test"
				if i == 0 {
					action = created
				}
				if err := Append(tx, noon.Add(time.Duration(i)), Event{Action: action, By: "system", Target: fmt.Sprint(i)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func chain(t *testing.T, s storage.Store, want int) {
	t.Helper()
	if n, err := Chain(t.Context(), s); err != nil || n != want {
		t.Fatalf("Chain moved %d, %v, want %d", n, err, want)
	}
}

func verify(t *testing.T, s storage.Store, want uint64) {
	t.Helper()
	if n, err := Verify(t.Context(), s); err != nil || n != want {
		t.Errorf("Verify returned %d, %v, want %d", n, err, want)
	}
}

// tail returns records with numbers after seq, oldest first.
func tail(t *testing.T, s storage.Store, seq uint64, limit int) ([]Record, error) {
	t.Helper()
	p, err := Read(t.Context(), s, Query{Forward: true, From: Cursor{Seq: seq}, Limit: limit})
	return p.Records, err
}

// TestTheChainKeepsTheOrder of the decisions, and all of their facts.
func TestTheChainKeepsTheOrder(t *testing.T) {
	s := openStore(t)
	chain(t, s, 0)
	// The later decisions are written first, as can happen with two nodes.
	decide(t, s, 50, 50)
	decide(t, s, 0, 50)
	e := Event{Action: "key.revoke", By: "uid:1000", Target: "kid", Detail: map[string]string{"b": "2", "a": "1"}}
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		return Append(tx, noon.Add(time.Hour).In(time.FixedZone("", 3600)), e)
	}); err != nil {
		t.Fatal(err)
	}
	chain(t, s, 101)
	chain(t, s, 0)
	verify(t, s, 101)
	records, err := tail(t, s, 0, 1000)
	if err != nil || len(records) != 101 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, r := range records[:100] {
		if r.Seq != uint64(i+1) || r.Target != fmt.Sprint(i) || !r.Time.Equal(noon) { // in whole seconds; the order is finer
			t.Errorf("record %d is %+v", i+1, r)
		}
	}
	last := records[100]
	if last.Action != e.Action || last.By != e.By || last.Target != e.Target || !maps.Equal(last.Detail, e.Detail) ||
		!last.Time.Equal(noon.Add(time.Hour)) {
		t.Errorf("the last record is %+v", last)
	}
	if records[0].Previous != strings.Repeat("0", 64) {
		t.Errorf("the first record has %q as previous hash", records[0].Previous)
	}
}

func TestTailAndLast(t *testing.T) {
	s := openStore(t)
	if r, err := last(t.Context(), s, 5); len(r) != 0 || err != nil {
		t.Errorf("Last of an empty chain: %v, %v", r, err)
	}
	decide(t, s, 0, 40)
	chain(t, s, 40)
	for _, tt := range []struct {
		name        string
		read        func() ([]Record, error)
		first, last uint64 // 0: none
	}{
		{"from the start", func() ([]Record, error) { return tail(t, s, 0, 10) }, 1, 10},
		{"on from there", func() ([]Record, error) { return tail(t, s, 10, 100) }, 11, 40},
		{"at the end", func() ([]Record, error) { return tail(t, s, 40, 100) }, 0, 0},
		{"far after the end", func() ([]Record, error) { return tail(t, s, 1<<62, 100) }, 0, 0},
		{"none", func() ([]Record, error) { return tail(t, s, 0, 0) }, 0, 0},
		{"newest", func() ([]Record, error) { return last(t.Context(), s, 3) }, 38, 40},
		{"more than there are", func() ([]Record, error) { return last(t.Context(), s, 5000) }, 1, 40},
		{"newest none", func() ([]Record, error) { return last(t.Context(), s, -1) }, 0, 0},
	} {
		records, err := tt.read()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var first, last uint64
		if len(records) > 0 {
			first, last = records[0].Seq, records[len(records)-1].Seq
		}
		if first != tt.first || last != tt.last {
			t.Errorf("%s: records %d to %d, want %d to %d", tt.name, first, last, tt.first, tt.last)
		}
	}
}

// TestAChangeOfTheLogIsFound wherever it is made.
//
// I19.
func TestAChangeOfTheLogIsFound(t *testing.T) {
	edit := func(key, from, to string) func(storage.Tx) error {
		return func(tx storage.Tx) error {
			v, err := tx.Get(key)
			if !bytes.Contains(v, []byte(from)) {
				return fmt.Errorf("%s does not contain %s: %v", key, from, err)
			}
			return tx.Put(key, bytes.Replace(v, []byte(from), []byte(to), 1))
		}
	}
	move := func(from, to string) func(storage.Tx) error {
		return func(tx storage.Tx) error {
			v, err := tx.Get(from)
			return errors.Join(err, tx.Put(to, v))
		}
	}
	for _, tt := range []struct {
		name   string
		change func(tx storage.Tx) error
		at     uint64
	}{
		{"an edited record", edit(logKey(20), "system", "edited"), 21},
		{"an edited last record", edit(logKey(40), "system", "edited"), 40},
		{"a removed record", func(tx storage.Tx) error { return tx.Delete(logKey(20)) }, 20},
		{"a removed first record", func(tx storage.Tx) error { return tx.Delete(logKey(1)) }, 1},
		{"a removed last record", func(tx storage.Tx) error { return tx.Delete(logKey(40)) }, 40},
		{"a removed head", func(tx storage.Tx) error { return tx.Delete(headKey) }, 1},
		{"an unreadable head", func(tx storage.Tx) error { return tx.Put(headKey, []byte("{")) }, 0},
		{"an unreadable record", func(tx storage.Tx) error { return tx.Put(logKey(7), []byte("{")) }, 7},
		{"a copied record", move(logKey(20), logKey(21)), 21},
		{"an added record", move(logKey(40), logKey(41)), 41},
		{"an inserted record", move(logKey(20), logKey(20)+"a"), 21},
		{"a record before the first", move(logKey(1), logKey(0)), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t)
			decide(t, s, 0, 40)
			chain(t, s, 40)
			verify(t, s, 40)
			if err := s.Update(t.Context(), tt.change); err != nil {
				t.Fatal(err)
			}
			if at, err := Verify(t.Context(), s); !errors.Is(err, ErrDamaged) || at != tt.at {
				t.Errorf("Verify returned %d, %v, want ErrDamaged at %d", at, err, tt.at)
			}
		})
	}
}

// TestTenThousandRecords are chained, verified and read in pages.
func TestTenThousandRecords(t *testing.T) {
	const n = 10_000
	s := openStore(t)
	decide(t, s, 0, n)
	chain(t, s, n)
	verify(t, s, n)
	after, pages := uint64(0), 0
	for ; ; pages++ {
		records, err := tail(t, s, after, 5000)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			if after++; r.Seq != after || r.Target != fmt.Sprint(after-1) {
				t.Fatalf("record %d is %+v", after, r)
			}
		}
	}
	if after != n || pages != n/maxPage {
		t.Errorf("read %d records in %d pages", after, pages)
	}
}

// A faultyStore fails every Update after some have succeeded: before the commit, so that
// nothing is written, or after it, so that the caller does not know of the writes.
type faultyStore struct {
	storage.Store
	passes      atomic.Int32
	afterCommit bool
}

// errCrash ends no loop: only the Status of a store does.
var errCrash = fmt.Errorf("%w: crash", storage.ErrUnknownOutcome)

func (f *faultyStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if f.passes.Add(-1) >= 0 {
		return f.Store.Update(ctx, fn)
	}
	err := f.Store.Update(ctx, func(tx storage.Tx) error {
		if err := fn(tx); err != nil || f.afterCommit {
			return err
		}
		return errCrash
	})
	if err == nil {
		err = errCrash
	}
	return err
}

// TestACrashBetweenPagesLosesNoRecord, and chains none twice.
//
// I19.
func TestACrashBetweenPagesLosesNoRecord(t *testing.T) {
	const n = 4*pageRecords + 7
	for passes := range 5 {
		for _, afterCommit := range []bool{false, true} {
			s := openStore(t)
			decide(t, s, 0, n)
			f := &faultyStore{Store: s, afterCommit: afterCommit}
			f.passes.Store(int32(passes))
			moved, err := Chain(t.Context(), f)
			if !errors.Is(err, errCrash) || moved != passes*pageRecords {
				t.Fatalf("Chain moved %d, %v", moved, err)
			}
			if _, err := Chain(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			verify(t, s, n)
			records, err := tail(t, s, 0, 1000)
			if err != nil || len(records) != n {
				t.Fatalf("%d records, %v, want %d", len(records), err, n)
			}
			for i, r := range records {
				if r.Target != fmt.Sprint(i) {
					t.Fatalf("record %d is %s", i, r.Target)
				}
			}
		}
	}
}

// TestTwoChainsMissNoRecord while other goroutines append.
//
// I19.
func TestTwoChainsMissNoRecord(t *testing.T) {
	const appenders, each = 8, 40
	s := openStore(t)
	decide(t, s, 0, 1)
	stop := make(chan struct{})
	var appending, chaining sync.WaitGroup
	for range 2 {
		chaining.Go(func() {
			for {
				if _, err := Chain(t.Context(), s); err != nil {
					t.Error(err)
				}
				if _, err := Verify(t.Context(), s); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for a := range appenders {
		appending.Go(func() {
			for i := range each {
				if err := s.Update(t.Context(), func(tx storage.Tx) error {
					return Append(tx, time.Now(), Event{Action: "test", Target: fmt.Sprintf("%d/%d", a, i)})
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	appending.Wait()
	close(stop)
	chaining.Wait()
	if _, err := Chain(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	verify(t, s, 1+appenders*each)
	records, err := tail(t, s, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, r := range records[1:] {
		targets = append(targets, r.Target)
	}
	slices.Sort(targets)
	if n := len(slices.Compact(targets)); n != appenders*each {
		t.Errorf("%d different records, want %d", n, appenders*each)
	}
}

// TestAForeignRecordDoesNotStopTheChain: it stays where it is, and the chain gets those after it.
func TestAForeignRecordDoesNotStopTheChain(t *testing.T) {
	s := openStore(t)
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		return tx.Put(newPrefix+"0", []byte("not a record"))
	}); err != nil {
		t.Fatal(err)
	}
	decide(t, s, 0, 1)
	chain(t, s, 1)
	verify(t, s, 1)
	if r, err := tail(t, s, 0, 2); err != nil || len(r) != 1 || r[0].Target != "0" {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestRunChainsOnceASecond, continues after a fault, and ends with its context or with its
// store.
func TestRunChainsOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		f := &faultyStore{Store: s}
		f.passes.Store(1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, f, RunConfig{Log: slog.New(slog.DiscardHandler)}) }()
		length := func() uint64 {
			n, err := Verify(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		for i, want := range []uint64{1, 1, 1} {
			decide(t, s, i, 1)
			time.Sleep(time.Second)
			synctest.Wait()
			if n := length(); n != want {
				t.Errorf("after %d s the chain has %d records, want %d", i+1, n, want)
			}
		}
		f.passes.Store(1 << 20)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := length(); n != 3 {
			t.Errorf("after the fault the chain has %d records, want 3", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run after its context ended: %v", err)
		}
		go func() { ended <- Run(t.Context(), s, RunConfig{Log: slog.New(slog.DiscardHandler)}) }()
		s.Close()
		if err := <-ended; !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Run after its store closed: %v", err)
		}
	})
}
