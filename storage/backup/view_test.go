package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
)

// TestAChangeAcknowledgedBeforeTheEndIsInTheCopy, and one that is acknowledged after the last that the copy has
// is later than the end that the copy tells.
//
// I15.
func TestAChangeAcknowledgedBeforeTheEndIsInTheCopy(t *testing.T) {
	s := openStore(t)
	put(t, s, map[string]string{"a": "1"})
	var acknowledged time.Time
	source := stopped{s, func() {
		put(t, s, map[string]string{"b": "2"})
		acknowledged = time.Now()
	}}
	var b bytes.Buffer
	trailer, err := Write(t.Context(), &b, source, options(t))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := restored(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, found := got["b"]; found || !acknowledged.After(trailer.Ended) {
		t.Errorf("in the copy: %v; acknowledged %v after its end", found, acknowledged.Sub(trailer.Ended))
	}
}

// A stopped store calls fn after the end of a copy.
type stopped struct {
	*bolt.Store
	fn func()
}

func (s stopped) Follow(ctx context.Context, fn func([]storage.Write)) (func(), error) {
	stop, err := s.Store.Follow(ctx, fn)
	return sync.OnceFunc(func() {
		stop()
		s.fn()
	}), err
}

// TestNoViewOfACopyIsLong: it reads 1,000 records, or 4 MiB and one record more. A long one keeps free pages
// from being used, and the file grows.
func TestNoViewOfACopyIsLong(t *testing.T) {
	s := openStore(t)
	records := map[string]string{}
	for n := range 2500 {
		records[fmt.Sprintf("k/%05d", n)] = ""
	}
	put(t, s, records)
	for n := range 100 {
		key, large := fmt.Sprintf("z/%05d", n), strings.Repeat("v", storage.MaxValueBytes)
		records[key] = large
		put(t, s, map[string]string{key: large})
	}
	views := &counting{Store: s}
	var b bytes.Buffer
	if _, err := Write(t.Context(), &b, views, options(t)); err != nil {
		t.Fatal(err)
	}
	most, largest := slices.Max(views.records), slices.Max(views.bytes)
	if most > 1000 || largest > 4<<20+storage.MaxKeyBytes+storage.MaxStoredBytes {
		t.Errorf("a View reads %d records, another one %d bytes", most, largest)
	}
	got, _, err := restored(&b)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, records)
}

// A counting store counts what each View reads.
type counting struct {
	*bolt.Store
	records, bytes []int
}

func (c *counting) View(ctx context.Context, fn func(storage.Reader) error) error {
	return c.Store.View(ctx, func(r storage.Reader) error {
		c.records, c.bytes = append(c.records, 0), append(c.bytes, 0)
		return fn(countingReader{r, c})
	})
}

type countingReader struct {
	storage.Reader
	c *counting
}

func (r countingReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		last := len(r.c.records) - 1
		for e, err := range r.Reader.Scan(start, end) {
			r.c.records[last]++
			r.c.bytes[last] += len(e.Key) + len(e.Value)
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestACopyPausesBesideChanges for as long as it works, and does not pause in a store that is not changed.
func TestACopyPausesBesideChanges(t *testing.T) {
	const pages, work = 8, 10 * time.Millisecond
	for name, tt := range map[string]struct {
		changes int // in each page
		work    time.Duration
		want    time.Duration
	}{
		"unchanged":   {0, work, pages * work},
		"changed":     {1, work, (2*pages - 1) * work},
		"slow reader": {1, time.Second, pages*time.Second + (pages-1)*maxPause},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := openStore(t)
			records := map[string]string{}
			for n := range pages*pageRecords - 1 {
				records[fmt.Sprintf("k/%05d", n)] = ""
			}
			put(t, s, records)
			busy := &working{Store: s, work: tt.work, change: func() {
				for range tt.changes {
					put(t, s, map[string]string{"k/00000": "x"})
				}
			}}
			begun := time.Now()
			if _, err := Write(t.Context(), io.Discard, busy, options(t)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took != tt.want {
				t.Errorf("%s: %d pages took %v, want %v", name, pages, took, tt.want)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A working store takes time for each View, and is changed during it.
type working struct {
	*bolt.Store
	work   time.Duration
	change func()
}

func (s *working) View(ctx context.Context, fn func(storage.Reader) error) error {
	time.Sleep(s.work)
	s.change()
	return s.Store.View(ctx, fn)
}

// TestACancelledCopyDoesNotPause.
func TestACancelledCopyDoesNotPause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause(ctx, time.Hour); err != context.Canceled {
		t.Error(err)
	}
}
