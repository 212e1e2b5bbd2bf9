package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/postgres/postgrestest"
)

// commit writes a batch that must hold.
func commit(t *testing.T, e *Engine, parts ...part) int64 {
	t.Helper()
	version, stale, err := e.Commit(context.Background(), 0, batch(parts...))
	if err != nil || stale != nil {
		t.Fatalf("commit: stale %v, error %v", stale, err)
	}
	return version
}

// content returns everything as "key=value key=value".
func content(t *testing.T, e *Engine) string {
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

// TestABatchIsWrittenOnlyIfEverythingHolds has one row for each thing that a batch can name. Each begins
// with a=1 of one commit, and b=2 and d=4 of another one.
func TestABatchIsWrittenOnlyIfEverythingHolds(t *testing.T) {
	url := postgrestest.Shared(t).Database(t)
	e := open(t, url)
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
		parts func() []part
		stale string // records that changed, with their values; "span" for a span
		want  string
	}{
		{"a read that holds", func() []part { return []part{reads("a", a), puts("a", "9")} }, "", "a=9 b=2 d=4"},
		{"a read of an absent record", func() []part { return []part{reads("c", 0), puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"a write without a read", func() []part { return []part{puts("b", "8", "e", "5")} }, "", "a=1 b=8 d=4 e=5"},
		{"a removal", func() []part { return []part{reads("a", a), deletes("a", "absent")} }, "", "b=2 d=4"},
		{"an empty value", func() []part { return []part{reads("a", a), puts("a", "", "c", "")} }, "", "a= b=2 c= d=4"},
		{"a read that changed", func() []part { return []part{reads("a", bd), puts("c", "3")} }, "a=1", unchanged},
		{"a read that appeared", func() []part { return []part{reads("a", 0), puts("c", "3")} }, "a=1", unchanged},
		{"a read that is gone", func() []part { return []part{reads("c", a), puts("c", "3")} }, "c=", unchanged},
		{"several that changed", func() []part { return []part{reads("a", 0), reads("b", bd), reads("d", 7), puts("c", "3")} }, "a=1 d=4", unchanged},
		{"a span that holds", func() []part { return []part{scanned("a", "c", at("a", "b")...), puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"a span without records", func() []part { return []part{scanned("b0", "d"), puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"a span without an end", func() []part { return []part{scanned("b", "", at("b", "d")...), puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"two spans", func() []part {
			return []part{scanned("a", "b", at("a")...), scanned("c", "", at("d")...), puts("c", "3")}
		}, "", "a=1 b=2 c=3 d=4"},
		{"a span with one more", func() []part { return []part{scanned("a", "c", at("a")...), puts("c", "3")} }, "span", unchanged},
		{"a span with one less", func() []part { return []part{scanned("b0", "e", at("b", "d")...), puts("c", "3")} }, "span", unchanged},
		{"a span with another record", func() []part { return []part{scanned("a", "b", at("b")...), puts("c", "3")} }, "span", unchanged},
		{"a span that is no longer empty", func() []part { return []part{scanned("c", ""), puts("c", "3")} }, "span", unchanged},
		{"the second of two spans", func() []part { return []part{scanned("a", "b", at("a")...), scanned("c", "e"), puts("c", "3")} }, "span", unchanged},
		{"a read and a span", func() []part { return []part{reads("a", bd), scanned("c", "e"), puts("c", "3")} }, "a=1 span", unchanged},
		{"no write, and it holds", func() []part { return []part{reads("a", a), reads("c", 0), scanned("b", "d", at("b")...)} }, "", unchanged},
		{"no write, and it does not hold", func() []part { return []part{reads("a", bd), scanned("b", "d")} }, "a=1 span", unchanged},
		{"bounds that are no text", func() []part { return []part{scanned("a\x00", "b\xff", at("b")...), puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
		{"a span behind all keys", func() []part { return []part{scanned("\xff", ""), puts("c", "3")} }, "", "a=1 b=2 c=3 d=4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			commit(t, e, deletes("a", "b", "c", "d", "e"))
			a, bd = commit(t, e, puts("a", "1")), commit(t, e, puts("b", "2", "d", "4"))
			version, stale, err := e.Commit(context.Background(), 0, batch(tt.parts()...))
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
			if c := content(t, e); c != tt.want {
				t.Errorf("the table holds %q, want %q", c, tt.want)
			}
			if version == a || version == bd {
				t.Error("a version repeats")
			}
		})
	}
}

// TestAStaleBatchBringsTheRecordsAsTheyAre, with versions that hold then.
func TestAStaleBatchBringsTheRecordsAsTheyAre(t *testing.T) {
	e := open(t, postgrestest.Shared(t).Database(t))
	commit(t, e, puts("a", "1"))
	_, stale, err := e.Commit(context.Background(), 0, batch(reads("a", 5), reads("b", 6), puts("a", "2")))
	if err != nil || stale == nil || len(stale.Records) != 2 {
		t.Fatalf("stale %v, error %v", stale, err)
	}
	commit(t, e, reads("a", stale.Records[0].Version), reads("b", stale.Records[1].Version), puts("a", "2"))
}

// TestValuesAndKeysOfEverySizeAndByteComeBack: the largest ones, and bytes that a text could not hold.
func TestValuesAndKeysOfEverySizeAndByteComeBack(t *testing.T) {
	e := open(t, postgrestest.Shared(t).Database(t))
	every := make([]byte, storage.MaxStoredBytes)
	for i := range every {
		every[i] = byte(i)
	}
	key := strings.Repeat("~", storage.MaxKeyBytes-5) + ` '"\{`
	for range 2 { // put, and then updated
		version := int64(0)
		records, err := e.Fetch(context.Background(), []string{key})
		if err == nil {
			version = records[0].Version
		}
		commit(t, e, reads(key, version), puts(key, string(every)))
		records, err = e.Fetch(context.Background(), []string{"absent", key})
		if err != nil {
			t.Fatal(err)
		}
		if records[0].Version != 0 || records[0].Key != "absent" || records[1].Key != key || !bytes.Equal(records[1].Value, every) {
			t.Errorf("read %d bytes under %q", len(records[1].Value), records[1].Key)
		}
	}
}

// TestTheLargestBatchIsWritten, although it has more keys than a commit may have locks.
func TestTheLargestBatchIsWritten(t *testing.T) {
	e := open(t, postgrestest.Shared(t).Database(t))
	var read, written []part
	var keys []string
	for i := range optimistic.MaxCommitKeys {
		key := fmt.Sprintf("%05d", i)
		keys = append(keys, key)
		read, written = append(read, reads(key, 0)), append(written, puts(key, key))
	}
	commit(t, e, append(read, written...)...)
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

func TestScansKeepBoundsAndLimits(t *testing.T) {
	e := open(t, postgrestest.Shared(t).Database(t))
	commit(t, e, puts("a", "1", "a/", "2", "a/b", "3", "a0", "4", "b", "5"))
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

// TestASnapshotDoesNotChange while others write, and ends with its function.
func TestASnapshotDoesNotChange(t *testing.T) {
	e := open(t, postgrestest.Shared(t).Database(t))
	for i := range 2*scanPage + 3 {
		commit(t, e, puts(fmt.Sprintf("p/%05d", i), "1"))
	}
	var kept storage.Reader
	var next func() (storage.Entry, error, bool)
	var stop func()
	problem := errors.New("the function's own")
	err := e.Snapshot(context.Background(), func(r storage.Reader) error {
		kept = r
		commit(t, e, puts("a", "1"), deletes("p/00000"))
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
		if n != 2*scanPage+3 {
			t.Errorf("the scan saw %d records", n)
		}
		return problem
	})
	if err != problem {
		t.Errorf("Snapshot returned %v", err)
	}
	if _, err := kept.Get("a"); !errors.Is(err, errEnded) {
		t.Errorf("a reader that was kept: %v", err)
	}
	defer stop()
	if _, err, more := next(); !more || !errors.Is(err, errEnded) {
		t.Errorf("a scan that was kept: %t, %v", more, err)
	}
	for _, err := range kept.Scan("", "") {
		if !errors.Is(err, errEnded) {
			t.Errorf("a scan of a reader that was kept: %v", err)
		}
	}
	if idle := e.reads.Stat().IdleConns(); idle == 0 {
		t.Error("the connection of the snapshot was not given back")
	}
}

// TestExclusiveReadsWhatItWritesOver, and an error or a panic of its function writes nothing.
func TestExclusiveReadsWhatItWritesOver(t *testing.T) {
	e := open(t, postgrestest.Shared(t).Database(t))
	commit(t, e, puts("a", "1", "b", "2"))
	ctx := context.Background()
	version, err := e.Exclusive(ctx, 1, func(r storage.Reader) ([]storage.Write, error) {
		v, err := r.Get("a")
		return []storage.Write{{Key: "a", Value: append(v, '0')}, {Key: "b", Deleted: true}}, err
	})
	if err != nil || content(t, e) != "a=10" {
		t.Fatalf("%q, %v", content(t, e), err)
	}
	commit(t, e, reads("a", version), puts("c", "3")) // the records have the version
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
	commit(t, e, puts("d", "4")) // nothing is locked
	if c := content(t, e); c != "a=10 c=3 d=4" {
		t.Errorf("the table holds %q", c)
	}
	if size, err := e.Size(ctx); err != nil || size < 8192 {
		t.Errorf("size %d, %v", size, err)
	}
}
