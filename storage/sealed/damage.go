package sealed

import (
	"fmt"
	"maps"
	"reflect"
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

// add remembers a damaged record.
func (d *damage) add(e *storage.DamageError) {
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
}

// has reports whether the record is remembered.
func (d *damage) has(key string) bool {
	if !d.some.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys[kindOf(key)][key] != nil
}

func (d *damage) remove(key string) {
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

// A finding is a record that a run has found damaged or, with a nil damage, whole again. It is kept until the run
// counts: one that is discarded may have read an older record, or a page of the manifest of another instant.
type finding struct {
	key    string
	damage *storage.DamageError
}

// settle remembers what the last run has found, if its result is that of the transaction.
func (r *reader) settle(err error) {
	if len(r.found) == 0 || !same(err, r.result) {
		return
	}
	for _, f := range r.found {
		if f.damage == nil {
			r.damage.remove(f.key)
		} else {
			r.damage.add(f.damage)
		}
	}
}

// same reports whether a and b are the same error. A type that cannot be compared is not.
func same(a, b error) bool {
	return a == nil && b == nil || a != nil && reflect.ValueOf(a).Comparable() && a == b
}

func (r *reader) noteDamage(e *storage.DamageError) error {
	r.found = append(r.found, finding{e.Key, e})
	return e
}

// verify returns the value of a stored record and its tag, and notes whether the tag fits.
func (r *reader) verify(key string, stored []byte) ([]byte, tag, error) {
	value, sum, ok := r.state.check(key, stored)
	if !ok {
		r.misfit = true
		return nil, tag{}, r.noteDamage(&storage.DamageError{Key: key, Err: storage.ErrForged})
	}
	if len(r.found) > 0 || r.damage.has(key) {
		r.found = append(r.found, finding{key: key})
	}
	return value, sum, nil
}

// damaged returns an error for a record that is missing or older, and notes it.
func (r *reader) damaged(key, why string) error {
	return r.noteDamage(&storage.DamageError{Key: key, Err: fmt.Errorf("%w: %s", storage.ErrDamaged, why)})
}
