package enginetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// Run tests that an Engine keeps what optimistic.Engine promises. open returns an Engine on an empty database
// until the test ends.
func Run(t *testing.T, open func(t *testing.T) optimistic.Engine) {
	for _, promise := range []struct {
		name string
		test func(t *testing.T, e optimistic.Engine)
	}{
		{"ABatchIsWrittenOnlyIfEverythingHolds", aBatchIsWrittenOnlyIfEverythingHolds},
		{"AStaleBatchBringsTheRecordsAsTheyAre", aStaleBatchBringsTheRecordsAsTheyAre},
		{"TheLargestBatchIsWritten", theLargestBatchIsWritten},
		{"ScansKeepBoundsAndLimits", scansKeepBoundsAndLimits},
		{"ASnapshotDoesNotChange", aSnapshotDoesNotChange},
		{"ExclusiveReadsWhatItWritesOver", exclusiveReadsWhatItWritesOver},
		{"NoCommitComesBetweenAnExclusive", noCommitComesBetweenAnExclusive},
	} {
		t.Run(promise.name, func(t *testing.T) { promise.test(t, open(t)) })
	}
}

// Commit writes a batch that must hold.
func Commit(t *testing.T, e optimistic.Engine, parts ...Part) int64 {
	t.Helper()
	version, stale, err := e.Commit(context.Background(), 0, Batch(parts...))
	if err != nil || stale != nil {
		t.Fatalf("commit: stale %v, error %v", stale, err)
	}
	return version
}

// Content returns everything as "key=value key=value".
func Content(t *testing.T, e optimistic.Engine) string {
	t.Helper()
	records, err := e.Scan(context.Background(), "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return text(records)
}

func text(records []optimistic.Record) string {
	var parts []string
	for _, r := range records {
		parts = append(parts, r.Key+"="+string(r.Value))
	}
	return strings.Join(parts, " ")
}

// aBatchIsWrittenOnlyIfEverythingHolds has one row for each thing that a batch can name. Each begins
// with a=1 of one commit, and b=2 and d=4 of another one.
func aBatchIsWrittenOnlyIfEverythingHolds(t *testing.T, e optimistic.Engine) {
	var a, bd int64 // versions
	at := func(keys ...string) (records []optimistic.Record) {
		for _, key := range keys {
			version := bd
			if key == "a" {
				version = a
			}
			records = append(records, optimistic.Record{Key: key, Version: version})
		}
		return records
	}
	const unchanged = "a=1 b=2 d=4"
	for _, tt := range []struct {
		name  string
		parts func() []Part
		stale string // records that changed, with their values; "span" for a span
		want  string
	}{
		{"a read that holds", func() []Part { return []Part{Reads("a", a), Puts("a", "9")} }, "", "a=9 b=2 d=4"},
		{"a read of an absent record", func() []Part { return []Part{Reads("c", 0), Puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"a write without a read", func() []Part { return []Part{Puts("b", "8", "e", "5")} }, "", "a=1 b=8 d=4 e=5"},
		{"a removal", func() []Part { return []Part{Reads("a", a), Deletes("a", "absent")} }, "", "b=2 d=4"},
		{"an empty value", func() []Part { return []Part{Reads("a", a), Puts("a", "", "c", "")} }, "", "a= b=2 c= d=4"},
		{"a read that changed", func() []Part { return []Part{Reads("a", bd), Puts("c", "3")} }, "a=1", unchanged},
		{"a read that appeared", func() []Part { return []Part{Reads("a", 0), Puts("c", "3")} }, "a=1", unchanged},
		{"a read that is gone", func() []Part { return []Part{Reads("c", a), Puts("c", "3")} }, "c=", unchanged},
		{"several that changed", func() []Part { return []Part{Reads("a", 0), Reads("b", bd), Reads("d", 7), Puts("c", "3")} }, "a=1 d=4", unchanged},
		{"a span that holds", func() []Part { return []Part{Scanned("a", "c", at("a", "b")...), Puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"a span without records", func() []Part { return []Part{Scanned("b0", "d"), Puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"a span without an end", func() []Part { return []Part{Scanned("b", "", at("b", "d")...), Puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"two spans", func() []Part {
			return []Part{Scanned("a", "b", at("a")...), Scanned("c", "", at("d")...), Puts("c", "3")}
		}, "", "a=1 b=2 c=3 d=4"},
		{"a span with one more", func() []Part { return []Part{Scanned("a", "c", at("a")...), Puts("c", "3")} }, "span", unchanged},
		{"a span with one less", func() []Part { return []Part{Scanned("b0", "e", at("b", "d")...), Puts("c", "3")} }, "span", unchanged},
		{"a span with another record", func() []Part { return []Part{Scanned("a", "b", at("b")...), Puts("c", "3")} }, "span", unchanged},
		{"a span that is no longer empty", func() []Part { return []Part{Scanned("c", ""), Puts("c", "3")} }, "span", unchanged},
		{"the second of two spans", func() []Part { return []Part{Scanned("a", "b", at("a")...), Scanned("c", "e"), Puts("c", "3")} }, "span", unchanged},
		{"a read and a span", func() []Part { return []Part{Reads("a", bd), Scanned("c", "e"), Puts("c", "3")} }, "a=1 span", unchanged},
		{"no write, and it holds", func() []Part { return []Part{Reads("a", a), Reads("c", 0), Scanned("b", "d", at("b")...)} }, "", unchanged},
		{"no write, and it does not hold", func() []Part { return []Part{Reads("a", bd), Scanned("b", "d")} }, "a=1 span", unchanged},
		{"bounds that are no text", func() []Part { return []Part{Scanned("a\x00", "b\xff", at("b")...), Puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"a span behind all keys", func() []Part { return []Part{Scanned("\xff", ""), Puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			Commit(t, e, Deletes("a", "b", "c", "d", "e"))
			a, bd = Commit(t, e, Puts("a", "1")), Commit(t, e, Puts("b", "2", "d", "4"))
			version, stale, err := e.Commit(context.Background(), 0, Batch(tt.parts()...))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if stale != nil {
				got = text(stale.Records)
				if stale.Spans {
					got = strings.TrimSpace(got + " span")
				}
			}
			if got != tt.stale {
				t.Errorf("stale: %q, want %q", got, tt.stale)
			}
			if c := Content(t, e); c != tt.want {
				t.Errorf("the table holds %q, want %q", c, tt.want)
			}
			if version == a || version == bd {
				t.Error("a version repeats")
			}
		})
	}
}

// aStaleBatchBringsTheRecordsAsTheyAre, with versions that hold then.
func aStaleBatchBringsTheRecordsAsTheyAre(t *testing.T, e optimistic.Engine) {
	Commit(t, e, Puts("a", "1"))
	_, stale, err := e.Commit(context.Background(), 0, Batch(Reads("a", 5), Reads("b", 6), Puts("a", "2")))
	if err != nil || stale == nil || len(stale.Records) != 2 {
		t.Fatalf("stale %v, error %v", stale, err)
	}
	Commit(t, e, Reads("a", stale.Records[0].Version), Reads("b", stale.Records[1].Version), Puts("a", "2"))
}

// theLargestBatchIsWritten, although it has more keys than a commit may have locks.
func theLargestBatchIsWritten(t *testing.T, e optimistic.Engine) {
	var read, written []Part
	var keys []string
	for i := range optimistic.MaxCommitKeys {
		key := fmt.Sprintf("%05d", i)
		keys = append(keys, key)
		read, written = append(read, Reads(key, 0)), append(written, Puts(key, key))
	}
	Commit(t, e, append(read, written...)...)
	records, err := e.Fetch(context.Background(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if r.Key != keys[i] || string(r.Value) != keys[i] {
			t.Fatalf("record %d is %s=%s", i, r.Key, r.Value)
		}
	}
}

func scansKeepBoundsAndLimits(t *testing.T, e optimistic.Engine) {
	Commit(t, e, Puts("a", "1", "a/", "2", "a/b", "3", "a0", "4", "b", "5"))
	for _, tt := range []struct {
		start, end string
		limit      int
		want       string
	}{
		{"", "", 10, "a=1 a/=2 a/b=3 a0=4 b=5"},
		{"", "", 2, "a=1 a/=2"},
		{"a/", "a0", 10, "a/=2 a/b=3"},
		{"a\x00", "", 10, "a/=2 a/b=3 a0=4 b=5"},
		{"", "a/\x00", 10, "a=1 a/=2"},
		{"a/\xff", "b", 10, "a0=4"},
		{"b", "a", 10, ""},
		{"\xff", "", 10, ""},
		{"", "\xff", 10, "a=1 a/=2 a/b=3 a0=4 b=5"},
	} {
		records, err := e.Scan(context.Background(), tt.start, tt.end, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(records); got != tt.want {
			t.Errorf("scan from %q to %q: %q, want %q", tt.start, tt.end, got, tt.want)
		}
	}
}

// page is how many records an Engine may read at once.
const page = 256

// aSnapshotDoesNotChange while others write, and ends with its function.
func aSnapshotDoesNotChange(t *testing.T, e optimistic.Engine) {
	for i := range 2*page + 3 {
		Commit(t, e, Puts(fmt.Sprintf("p/%05d", i), "1"))
	}
	var kept storage.Reader
	var next func() (storage.Entry, error, bool)
	var stop func()
	problem := errors.New("the function's own")
	err := e.Snapshot(context.Background(), func(r storage.Reader) error {
		kept = r
		Commit(t, e, Puts("a", "1"), Deletes("p/00000"))
		if v, err := r.GetAll("a", "p/00000", "p/00000"); err != nil || v[0] != nil || string(v[1]) != "1" || string(v[2]) != "1" {
			t.Errorf("GetAll: %q, %v", v, err)
		}
		if _, err := r.Get("a"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Get: %v", err)
		}
		if _, err := r.Get("é"); !errors.Is(err, storage.ErrLimit) {
			t.Errorf("Get of a key that cannot be: %v", err)
		}
		next, stop = iter.Pull2(r.Scan("p/00001", "p/00002"))
		next()
		n := 0
		for _, err := range r.Scan("p/", "p0") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 2*page+3 {
			t.Errorf("the scan saw %d records", n)
		}
		return problem
	})
	if err != problem {
		t.Errorf("Snapshot returned %v", err)
	}
	if _, err := kept.Get("a"); err == nil || errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a reader that was kept: %v", err)
	}
	defer stop()
	if _, err, more := next(); !more || err == nil {
		t.Errorf("a scan that was kept: %t, %v", more, err)
	}
	for _, err := range kept.Scan("", "") {
		if err == nil {
			t.Errorf("a scan of a reader that was kept: %v", err)
		}
	}
}

// exclusiveReadsWhatItWritesOver, and an error or a panic of its function writes nothing.
func exclusiveReadsWhatItWritesOver(t *testing.T, e optimistic.Engine) {
	Commit(t, e, Puts("a", "1", "b", "2"))
	ctx := context.Background()
	version, err := e.Exclusive(ctx, 1, func(r storage.Reader) ([]storage.Write, error) {
		v, err := r.Get("a")
		return []storage.Write{{Key: "a", Value: append(v, '0')}, {Key: "b", Deleted: true}}, err
	})
	if err != nil || Content(t, e) != "a=10" {
		t.Fatalf("%q, %v", Content(t, e), err)
	}
	Commit(t, e, Reads("a", version), Puts("c", "3")) // the records have the version
	problem := errors.New("the function's own")
	if _, err := e.Exclusive(ctx, 1, func(storage.Reader) ([]storage.Write, error) {
		return []storage.Write{{Key: "a"}}, problem
	}); err != problem {
		t.Errorf("an error: %v", err)
	}
	func() {
		defer func() {
			if p := recover(); p != problem {
				t.Errorf("a panic: %v", p)
			}
		}()
		_, _ = e.Exclusive(ctx, 1, func(storage.Reader) ([]storage.Write, error) { panic(problem) })
	}()
	if _, err := e.Exclusive(ctx, 1, func(storage.Reader) ([]storage.Write, error) { return nil, nil }); err != nil {
		t.Error(err)
	}
	Commit(t, e, Puts("d", "4")) // nothing is locked
	if c := Content(t, e); c != "a=10 c=3 d=4" {
		t.Errorf("the table holds %q", c)
	}
	if size, err := e.Size(ctx); err != nil || size <= 0 {
		t.Errorf("size %d, %v", size, err)
	}
}

// noCommitComesBetweenAnExclusive and its writes, so that one which begins in between is stale.
func noCommitComesBetweenAnExclusive(t *testing.T, e optimistic.Engine) {
	version := Commit(t, e, Puts("a", "1"))
	type result struct {
		stale *optimistic.Stale
		err   error
	}
	committed := make(chan result, 1)
	if _, err := e.Exclusive(context.Background(), 0, func(r storage.Reader) ([]storage.Write, error) {
		go func() {
			_, stale, err := e.Commit(context.Background(), 1, Batch(Reads("a", version), Puts("a", "2")))
			committed <- result{stale, err}
		}()
		select {
		case got := <-committed:
			t.Errorf("a commit ended while an Exclusive ran: %+v", got)
		case <-time.After(50 * time.Millisecond):
		}
		v, err := r.Get("a")
		return []storage.Write{{Key: "a", Value: append(v, '0')}}, err
	}); err != nil {
		t.Fatal(err)
	}
	if got := <-committed; got.err != nil || got.stale == nil || text(got.stale.Records) != "a=10" {
		t.Errorf("the commit that began in between: %+v", got)
	}
	if c := Content(t, e); c != "a=10" {
		t.Errorf("the table holds %q", c)
	}
}
