package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"keymill/integration_test/counts"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/optimistic"
	"keymill/storage/postgres/postgrestest"
)

// A twin is two nodes of a store in PostgreSQL, and a store in bbolt that does the same.
type twin struct {
	nodes  [2]storage.Store
	bbolt  storage.Store
	random *rand.Rand
}

// A step is one thing that a transaction does.
type step struct {
	op         int
	key, value string
	end        string // of a scan
	limit      int    // records after which the loop of a scan ends
}

// ops are the kinds of steps. Those from opPut on are for Updates only.
const (
	opGet = iota
	opGetAll
	opScan
	opPut
	opDelete
	opFail
	ops
)

var errOwn = errors.New("the function's own error")

// key returns one of a few keys, which are the bounds of scans, too. Some cannot be written.
func (w *twin) key() string {
	keys := []string{"a", "a/", "a/b", "a0", "b", "b/1", "b/2", "c", "~", "with space", strings.Repeat("k", storage.MaxKeyBytes)}
	if w.random.IntN(60) == 0 {
		keys = []string{"", "é", "zero\x00", strings.Repeat("k", storage.MaxKeyBytes+1)}
	}
	return keys[w.random.IntN(len(keys))]
}

func (w *twin) plan(update bool) (steps []step) {
	kinds := opPut
	if update {
		kinds = ops
	}
	for range 1 + w.random.IntN(8) {
		s := step{op: w.random.IntN(kinds), key: w.key(), end: w.key(), limit: 1 + w.random.IntN(12)}
		if s.op == opFail && w.random.IntN(4) > 0 {
			s.op = opPut
		}
		s.value = fmt.Sprint(w.random.IntN(1000))
		if w.random.IntN(50) == 0 {
			s.value = strings.Repeat("v", storage.MaxStoredBytes+w.random.IntN(2))
		}
		if w.random.IntN(8) == 0 {
			s.end = ""
		}
		steps = append(steps, s)
	}
	return steps
}

// do does the steps and returns what it saw.
func do(r storage.Reader, steps []step) (saw string, err error) {
	tx, _ := r.(storage.Tx)
	for _, s := range steps {
		switch s.op {
		case opGet:
			v, err := r.Get(s.key)
			saw += fmt.Sprintf("get %q %q %v\n", s.key, v, err)
		case opGetAll:
			v, err := r.GetAll(s.key, s.end, s.key)
			saw += fmt.Sprintf("get %q and %q %q %v\n", s.key, s.end, v, err)
		case opScan:
			saw += fmt.Sprintf("scan %q %q:", s.key, s.end)
			n := 0
			for e, err := range r.Scan(s.key, s.end) {
				saw += fmt.Sprintf(" %q=%q %v", e.Key, e.Value, err)
				if n++; n == s.limit {
					break
				}
			}
			saw += "\n"
		case opPut:
			saw += fmt.Sprintf("put %q %v\n", s.key, tx.Put(s.key, []byte(s.value)))
		case opDelete:
			saw += fmt.Sprintf("delete %q %v\n", s.key, tx.Delete(s.key))
		case opFail:
			return saw, errOwn
		}
	}
	return saw, nil
}

// turn does one transaction on both stores, and returns how they differ.
func (w *twin) turn() string {
	update := w.random.IntN(3) > 0
	steps := w.plan(update)
	on := func(s storage.Store) (saw string, err error) {
		if update {
			err = s.Update(context.Background(), func(tx storage.Tx) (err error) { saw, err = do(tx, steps); return err })
		} else {
			err = s.View(context.Background(), func(r storage.Reader) (err error) { saw, err = do(r, steps); return err })
		}
		return saw, err
	}
	got, err := on(w.nodes[w.random.IntN(len(w.nodes))])
	want, wanted := on(w.bbolt)
	if got != want || fmt.Sprint(err) != fmt.Sprint(wanted) {
		return fmt.Sprintf("PostgreSQL: %.2000s%v\nbbolt:      %.2000s%v", got, err, want, wanted)
	}
	return ""
}

// compare does random transactions that the seed decides.
func compare(t *testing.T, seed uint64, turns int) {
	t.Helper()
	url := postgrestest.Shared(t).Database(t)
	w := &twin{random: rand.New(rand.NewPCG(seed, 1))}
	sizes := []int64{0, -1, 2000}
	for n := range w.nodes {
		o := optimistic.Options{CacheBytes: sizes[w.random.IntN(len(sizes))], Committers: 1 + w.random.IntN(2)}
		w.nodes[n] = openStore(t, Config{URL: url, Create: true, Options: o})
	}
	b, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	w.bbolt = b
	for n := range turns {
		if different := w.turn(); different != "" {
			t.Fatalf("seed %d, transaction %d:\n%s", seed, n, different)
		}
	}
}

// TestAStoreDoesWhatBboltDoes: random transactions, on two nodes in turns, see and return the same.
func TestAStoreDoesWhatBboltDoes(t *testing.T) {
	for seed := range uint64(3) {
		compare(t, seed, counts.Of("postgres-models"))
	}
}

// FuzzTransactions does the same for any seed.
func FuzzTransactions(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(func(t *testing.T, seed uint64) { compare(t, seed, 50) })
}
