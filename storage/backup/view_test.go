package backup

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
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
