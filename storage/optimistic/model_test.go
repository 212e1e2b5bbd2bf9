package optimistic_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
)

// A step is what a transaction did, and what it saw.
type step struct {
	op, key, end string // get, scan, put or delete
	saw          string
}

// A transaction is one call of a history. Its place in the order is the number that it read under "order".
type transaction struct {
	id      string
	order   int
	update  bool
	refused bool
	unknown bool // whether it was written is read from the database
	begun   int  // the events before it began, see history.event
	ended   int
	steps   []step
}

// A history is what all callers did.
type history struct {
	mu    sync.Mutex
	event int            // guarded by mu
	all   []*transaction // guarded by mu
}

func (h *history) now() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.event++
	return h.event
}

var errRefused = errors.New("refused")

// plan returns steps of a transaction. All of them are on few keys, so that callers meet.
func plan(r *rand.Rand, id string, update bool) []step {
	var steps []step
	for range 1 + r.IntN(5) {
		key := "k/" + strconv.Itoa(r.IntN(12))
		switch n := r.IntN(10); {
		case n < 4 || !update && n < 9:
			steps = append(steps, step{op: "get", key: key})
		case n == 9:
			steps = append(steps, step{op: "scan", key: key, end: "k0"})
		case n < 7:
			steps = append(steps, step{op: "put", key: key})
		default:
			steps = append(steps, step{op: "delete", key: key})
		}
	}
	return steps
}

// run does the steps and returns them with what they saw.
func run(r storage.Reader, id string, steps []step) (seen []step, err error) {
	tx, _ := r.(storage.Tx)
	for _, s := range steps {
		switch s.op {
		case "get":
			v, err := r.Get(s.key)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, err
			}
			s.saw = string(v)
		case "scan":
			var all []string
			for e, err := range r.Scan(s.key, s.end) {
				if err != nil {
					return nil, err
				}
				all = append(all, e.Key+"="+string(e.Value))
			}
			s.saw = strings.Join(all, " ")
		case "put":
			err = tx.Put(s.key, []byte(id))
		case "delete":
			err = tx.Delete(s.key)
		}
		if err != nil {
			return nil, err
		}
		seen = append(seen, s)
	}
	return seen, nil
}

// call does one transaction on the store.
func (h *history) call(s storage.Store, r *rand.Rand, id string) {
	h.now()
	t := &transaction{id: id, update: r.IntN(3) > 0, begun: h.now()}
	refuse := t.update && r.IntN(6) == 0
	steps := plan(r, id, t.update)
	first := r.IntN(2) == 0
	order := func(r storage.Reader) error {
		v, err := r.Get("order")
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		t.order, _ = strconv.Atoi(string(v))
		return nil
	}
	fn := func(r storage.Reader) (err error) {
		t.order, t.steps, t.refused = 0, nil, false
		if first {
			err = order(r)
		}
		if err == nil {
			t.steps, err = run(r, id, steps)
		}
		if err == nil && !first {
			err = order(r)
		}
		return err
	}
	var err error
	if t.update {
		err = s.Update(context.Background(), func(tx storage.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			if refuse {
				t.refused = true
				return errRefused
			}
			return errors.Join(tx.Put("order", []byte(strconv.Itoa(t.order+1))), tx.Put("done/"+id, nil))
		})
	} else {
		err = s.View(context.Background(), fn)
	}
	t.ended = h.now()
	switch {
	case errors.Is(err, storage.ErrUnavailable), err != nil && err != errRefused && !errors.Is(err, storage.ErrUnknownOutcome):
		if !errors.Is(err, storage.ErrUnavailable) {
			panic(err)
		}
		return // nothing was done; a mark in the database would be found
	case errors.Is(err, storage.ErrUnknownOutcome):
		t.unknown = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, t)
}

// check replays the history in its order on a map, and compares what everybody saw. It also compares the order with
// real time.
func (h *history) check(t *testing.T, db *enginetest.Database) {
	t.Helper()
	records := db.Records()
	written := 0
	var all []*transaction
	for _, tr := range h.all {
		_, done := records["done/"+tr.id]
		switch writes := tr.update && !tr.refused; {
		case tr.unknown && (!done || !writes):
			continue // what it saw was not confirmed
		case writes && !done:
			t.Fatalf("transaction %s was acknowledged and is lost", tr.id)
		case done:
			written++
		}
		all = append(all, tr)
	}
	if got := string(records["order"].Value); got != strconv.Itoa(written) && written > 0 {
		t.Fatalf("order is %s after %d writers", got, written)
	}
	// Readers of number n come before the writer that read n.
	slices.SortStableFunc(all, func(a, b *transaction) int {
		return 2*(a.order-b.order) + rank(a) - rank(b)
	})
	model := map[string]string{}
	for i, tr := range all {
		if i > 0 && rank(tr) == 1 && rank(all[i-1]) == 1 && all[i-1].order == tr.order {
			t.Fatalf("%s and %s both wrote as number %d", all[i-1].id, tr.id, tr.order)
		}
		replay(t, tr, model)
	}
	latest := 0 // the number that the writers which have ended so far make necessary
	slices.SortFunc(all, func(a, b *transaction) int { return a.begun - b.begun })
	ended := slices.SortedFunc(slices.Values(all), func(a, b *transaction) int { return a.ended - b.ended })
	for _, tr := range all {
		for len(ended) > 0 && ended[0].ended < tr.begun {
			latest = max(latest, ended[0].order+rank(ended[0]))
			ended = ended[1:]
		}
		if tr.order < latest {
			t.Fatalf("%s saw number %d, and %d had ended before it began", tr.id, tr.order, latest)
		}
	}
}

// rank is 1 for a transaction that wrote.
func rank(tr *transaction) int {
	if tr.update && !tr.refused {
		return 1
	}
	return 0
}

// replay does the steps on the model, and compares what they saw.
func replay(t *testing.T, tr *transaction, model map[string]string) {
	t.Helper()
	own := maps.Clone(model)
	for _, s := range tr.steps {
		switch s.op {
		case "get":
			if own[s.key] != s.saw {
				t.Fatalf("%s, number %d: %s is %q, want %q", tr.id, tr.order, s.key, s.saw, own[s.key])
			}
		case "scan":
			var list []string
			for _, key := range slices.Sorted(maps.Keys(own)) {
				if s.key <= key && key < s.end {
					list = append(list, key+"="+own[key])
				}
			}
			if want := strings.Join(list, " "); want != s.saw {
				t.Fatalf("%s, number %d: [%s, %s) is %q, want %q", tr.id, tr.order, s.key, s.end, s.saw, want)
			}
		case "put":
			own[s.key] = tr.id
		case "delete":
			delete(own, s.key)
		}
	}
	if rank(tr) == 1 {
		clear(model)
		maps.Copy(model, own)
	}
}

// schedule runs callers on several stores of one database, with delays and faults that the seed decides.
func schedule(t *testing.T, seed uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		source := rand.New(rand.NewPCG(seed, 1)) // guarded by mu
		pick := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return source.IntN(n)
		}
		chance := func(n int) bool { return n > 0 && pick(n) == 0 }
		delay := func(string) time.Duration { return time.Duration(pick(1000)) * time.Microsecond }
		rates := []int{0, 0, 30}
		lose, fail, touch := rates[pick(3)], rates[pick(3)], rates[pick(3)]
		caches := []int64{0, -1, 16 << 10}
		db, h := enginetest.NewDatabase(), &history{}
		var all sync.WaitGroup
		for node := range 1 + pick(3) {
			s := optimistic.New(db.Open(enginetest.Faults{
				Delay: delay,
				Lose:  func() bool { return chance(lose) },
				Fail: func(string) error {
					if chance(fail) {
						return storage.ErrUnavailable
					}
					return nil
				},
				Touch: func(b *optimistic.Batch) string {
					if len(b.Reads) > 0 && chance(touch) {
						return b.Reads[0].Key
					}
					return ""
				},
			}), optimistic.Options{Committers: 1 + pick(3), Fetchers: 1 + pick(3), CacheBytes: caches[pick(3)]})
			defer s.Close()
			for caller := range 1 + pick(8) {
				r := rand.New(rand.NewPCG(seed, uint64(100*node+caller+2)))
				all.Go(func() {
					for n := range 12 {
						h.call(s, r, fmt.Sprintf("%d-%d-%d", node, caller, n))
					}
				})
			}
		}
		all.Wait()
		h.check(t, db)
	})
}

// TestEveryHistoryHasAnOrder replays what callers of several stores saw, one transaction after the other, on a map. The
// order respects real time.
func TestEveryHistoryHasAnOrder(t *testing.T) {
	for seed := range uint64(100) {
		if schedule(t, seed); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// FuzzSchedules does the same for any seed.
func FuzzSchedules(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(schedule)
}
