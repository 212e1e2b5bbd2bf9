package storagetest

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"keymill/storage"
)

// Rerunning returns a store over s that uses all freedom of the contract, as a store on the network
// does and bbolt does not. It runs each function first on runs that are discarded: their results,
// errors and panics have no effect.
//
//	View     one run on mixed records, then the one that counts. After both what follows in a storage.ViewThen
//	Update   one run on current records, one on mixed records, then the one that counts
//
// Mixed records are of different instants: for about half of the records that were written, the value
// before. All runs but the last are in a goroutine of their own, and at the same time as other callers'.
// What a test expects of s it can expect of this store, unless it counts runs.
func Rerunning(s storage.Store) storage.Store {
	return &rerunning{Store: s, seed: maphash.MakeSeed(), old: map[string][]byte{}}
}

// RerunningIfAsked returns Rerunning(s) if the environment variable KEYMILL_RERUN is set, and s otherwise. Tests
// that open a store call it, so this runs all tests of a package on stores that discard runs:
//
//	KEYMILL_RERUN=1 go test ./issuer
//
// A test that sets the variable and calls others runs these always.
func RerunningIfAsked(s storage.Store) storage.Store {
	if !isAsked() {
		return s
	}
	return Rerunning(s)
}

func isAsked() bool { return os.Getenv("KEYMILL_RERUN") != "" }

// SkipIfRerunning skips a test that expects each function to run once, as on bbolt.
func SkipIfRerunning(t testing.TB, why string) {
	if isAsked() {
		t.Skip("functions run again: " + why)
	}
}

// maxOld bounds the memory of a rerunning.
const maxOld = 10_000

type rerunning struct {
	storage.Store
	seed maphash.Seed

	mu   sync.Mutex
	old  map[string][]byte // key → value before the last write, nil if there was no record; owned by mu
	runs uint64            // owned by mu
}

// View implements storage.Store.
func (s *rerunning) View(ctx context.Context, fn func(storage.Reader) error) error {
	s.discard(ctx, func(r storage.Reader) { fn(r) })
	apart(func() { storage.WorkAhead(ctx) }) // after the View of s, because it may take long
	return s.Store.View(ctx, fn)
}

// Update implements storage.Store.
func (s *rerunning) Update(ctx context.Context, fn func(storage.Tx) error) error {
	var before map[string][]byte
	s.Store.View(ctx, func(r storage.Reader) error {
		tx := storage.NewOverlay(r)
		apart(func() { fn(tx) })
		before = valuesOf(r, tx)
		tx.End()
		return nil
	})
	s.discard(ctx, func(r storage.Reader) {
		tx := storage.NewOverlay(r)
		defer tx.End()
		fn(tx)
	})
	err := s.Store.Update(ctx, fn)
	if err == nil {
		s.remember(before)
	}
	return err
}

// discard runs fn on mixed records.
func (s *rerunning) discard(ctx context.Context, fn func(storage.Reader)) {
	s.Store.View(ctx, func(r storage.Reader) error {
		m := &mixed{base: r, old: s.half()}
		apart(func() { fn(m) })
		m.base = nil
		return nil
	})
}

// half returns the older values of about half of the records. Which ones changes with each call.
func (s *rerunning) half() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	old := maps.Clone(s.old)
	maps.DeleteFunc(old, func(key string, _ []byte) bool {
		return (maphash.String(s.seed, key)>>(s.runs%64))&1 == 0
	})
	return old
}

func (s *rerunning) remember(before map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.old) > maxOld {
		clear(s.old)
	}
	maps.Copy(s.old, before)
}

// apart runs fn in a goroutine of its own and waits for it. A panic of fn has no effect, and neither has
// the end of its goroutine.
func apart(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { recover() }()
		fn()
	}()
	<-done
}

// valuesOf returns what r holds under the keys that tx writes.
func valuesOf(r storage.Reader, tx *storage.Overlay) map[string][]byte {
	before := map[string][]byte{}
	for w := range tx.Writes() {
		if v, err := r.Get(w.Key); err == nil || errors.Is(err, storage.ErrNotFound) {
			before[w.Key] = v
		}
	}
	return before
}

// A mixed reads older values instead of those of base.
type mixed struct {
	base storage.Reader    // nil once the run has ended
	old  map[string][]byte // key → value, nil if there is no record
}

var errRunEnded = errors.New("the run has ended")

func (m *mixed) Get(key string) ([]byte, error) {
	if m.base == nil {
		return nil, errRunEnded
	}
	v, ok := m.old[key]
	switch {
	case !ok:
		return m.base.Get(key)
	case v == nil:
		return nil, storage.ErrNotFound
	}
	return bytes.Clone(v), nil
}

func (m *mixed) GetAll(keys ...string) ([][]byte, error) {
	if m.base == nil {
		return nil, errRunEnded
	}
	values, err := m.base.GetAll(keys...)
	if err != nil {
		return nil, err
	}
	for n, key := range keys {
		if v, ok := m.old[key]; ok {
			values[n] = bytes.Clone(v)
		}
	}
	return values, nil
}

func (m *mixed) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if m.base == nil {
			yield(storage.Entry{}, errRunEnded)
			return
		}
		var older []string
		for key := range m.old {
			if start <= key && storage.Before(key, end) {
				older = append(older, key)
			}
		}
		slices.Sort(older)
		for e, err := range m.base.Scan(start, end) {
			for len(older) > 0 && older[0] < e.Key {
				if !m.yield(older[0], yield) {
					return
				}
				older = older[1:]
			}
			if len(older) > 0 && older[0] == e.Key {
				continue // its older value comes before the next record
			}
			if !yield(e, err) || err != nil && !errors.Is(err, storage.ErrDamaged) {
				return
			}
		}
		for _, key := range older {
			if !m.yield(key, yield) {
				return
			}
		}
	}
}

// yield passes the older record on, if there was one.
func (m *mixed) yield(key string, yield func(storage.Entry, error) bool) bool {
	if m.base == nil {
		yield(storage.Entry{}, errRunEnded)
		return false
	}
	v := m.old[key]
	return v == nil || yield(storage.Entry{Key: key, Value: bytes.Clone(v)}, nil)
}
