package sealed

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"keymill/storage"
)

// maxDamagedKeys bounds the memory that a store with damage everywhere takes. It holds for each kind
// of record, so that damaged records of one kind do not hide those of another.
const maxDamagedKeys = 1000

// A damage remembers which records are damaged. Its zero value knows of none.
type damage struct {
	some atomic.Bool // keys is not empty; a whole record is the usual case and takes no lock
	mu   sync.Mutex
	keys map[string]map[string]*storage.DamageError // kind → key → why; owned by mu
}

// kindOf returns the part of a key that says what kind of record it is.
func kindOf(key string) string {
	kind, _, _ := strings.Cut(key, "/")
	return kind
}

// add remembers a damaged record, and returns e.
func (d *damage) add(e *storage.DamageError) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := kindOf(e.Key)
	if d.keys == nil {
		d.keys = map[string]map[string]*storage.DamageError{}
	}
	if d.keys[kind] == nil {
		d.keys[kind] = map[string]*storage.DamageError{}
	}
	if len(d.keys[kind]) < maxDamagedKeys {
		d.keys[kind][e.Key] = e
		d.some.Store(true)
	}
	return e
}

func (d *damage) remove(key string) {
	if !d.some.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := kindOf(key)
	if delete(d.keys[kind], key); len(d.keys[kind]) == 0 {
		delete(d.keys, kind)
	}
	d.some.Store(len(d.keys) > 0)
}

// list returns what is damaged, in key order.
func (d *damage) list() (out []*storage.DamageError) {
	if !d.some.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, kind := range d.keys {
		out = slices.AppendSeq(out, maps.Values(kind))
	}
	slices.SortFunc(out, func(a, b *storage.DamageError) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// verify returns the value of a stored record and its tag, and remembers whether the tag fits.
func (r *reader) verify(key string, stored []byte) ([]byte, tag, error) {
	value, sum, ok := r.state.check(key, stored)
	if !ok {
		return nil, tag{}, r.damage.add(&storage.DamageError{Key: key, Err: storage.ErrForged})
	}
	r.damage.remove(key)
	return value, sum, nil
}

// damaged returns an error for a record that is missing or older, and remembers it.
func (r *reader) damaged(key, why string) error {
	return r.damage.add(&storage.DamageError{Key: key, Err: fmt.Errorf("%w: %s", storage.ErrDamaged, why)})
}
