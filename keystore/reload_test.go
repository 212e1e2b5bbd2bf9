package keystore

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/keystore/internal/keyring"
	"keymill/storage"
	"keymill/storage/storagetest"
)

// A countingStore counts how often each record is read.
type countingStore struct {
	storage.Store
	reads map[string]int
	views int
}

func (c *countingStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	c.views++
	return c.Store.View(ctx, func(r storage.Reader) error { return fn(countingReader{r, c}) })
}

type countingReader struct {
	storage.Reader
	c *countingStore
}

func (r countingReader) Get(key string) ([]byte, error) {
	r.c.reads[key]++
	return r.Reader.Get(key)
}

func (r countingReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range r.Reader.Scan(start, end) {
			if r.c.reads[e.Key]++; !yield(e, err) {
				return
			}
		}
	}
}

// TestAReloadReadsEachRecordOnce: the rings and retired keys with their manifest, and only private halves that are not
// in memory. A start reads meta once for its content and once for its hash.
func TestAReloadReadsEachRecordOnce(t *testing.T) {
	storagetest.SkipIfRerunning(t, "reads are counted")
	s := &countingStore{Store: openStore(t, t.TempDir()+"/db"), reads: map[string]int{}}
	r := ringsOf(t, s)
	for _, kid := range []string{"one", "two", "three"} {
		req := ImportRequest{Key: pemOf(t, "PUBLIC KEY", edKey(t).Public()), KID: kid, Until: time.Now().Add(time.Hour)}
		if _, err := r.Import(t.Context(), req, "test"); err != nil {
			t.Fatal(err)
		}
	}
	s.reads, s.views = map[string]int{}, 0
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key, n := range s.reads {
		if n != 1 || strings.HasPrefix(key, "private/") {
			t.Errorf("a reload read %s %d times", key, n)
		}
	}
	for _, key := range []string{ringKey(EdDSA), retiredKey(EdDSA, "one"), retiredKey(EdDSA, "two"), retiredKey(EdDSA, "three"), "manifest"} {
		if s.reads[key] != 1 {
			t.Errorf("a reload read %s %d times; all: %q", key, s.reads[key], slices.Sorted(maps.Keys(s.reads)))
		}
	}
	if s.views != 2 {
		t.Errorf("a reload took %d Views", s.views)
	}
	s.reads = map[string]int{}
	if _, err := Open(t.Context(), s, r.cfg); err != nil {
		t.Fatal(err)
	}
	if s.reads[keyring.MetaRecord] != 2 || s.reads[keyring.Record] != 1 {
		t.Errorf("a start read meta %d times, the keyring %d times", s.reads[keyring.MetaRecord], s.reads[keyring.Record])
	}
}
