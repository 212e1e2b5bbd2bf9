package storage

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// errEnded is returned to callers that use a Tx after its Update has ended.
var errEnded = errors.New("transaction has ended")

// An Overlay is the Tx of one Update. It holds the function's writes in memory, over a
// Reader that does not change in the meantime. It counts every key and byte that the
// function touches and enforces the limits of the contract, so every store that uses an
// Overlay enforces them in the same way.
//
//	fn ──▶ Overlay: own writes, counted ──▶ base Reader
//	           │ fn and Err return nil
//	           └──▶ Writes, which the store applies
//
// An Overlay is for one run of the function. A store that runs the function again makes a
// new one. An Overlay must not be used from two goroutines at once.
type Overlay struct {
	base      Reader     // nil once the Overlay has ended
	states    []keyState // in the order in which keys were first touched; a linear search of so few beats a map
	bytes     int        // touched so far
	manifest  int        // how many of states are of the manifest
	uncounted int        // 1 if one of states is that of MovedKey
	wrote     bool
	unlimited bool                // it holds the writes of many Updates
	err       error               // the limit that was exceeded
	first     [usualKeys]keyState // the backing array of states, until it is full
}

// usualKeys is how many keys most functions touch at most. They need no second
// allocation.
const usualKeys = 8

// A keyState is what an Overlay knows about one key that the function touched.
type keyState struct {
	key     string
	read    bool // its stored value has been counted
	written bool
	deleted bool
	value   []byte // if written and not deleted; replaced, never changed
}

// A Write is one change that an Update makes.
type Write struct {
	Key     string
	Value   []byte // nil if Deleted; it belongs to the Overlay and must not be changed
	Deleted bool
}

// NewOverlay returns an Overlay without writes. base must show one consistent state
// until End; its Get and GetAll return copies and need not check keys.
func NewOverlay(base Reader) *Overlay {
	o := &Overlay{base: base}
	o.states = o.first[:0]
	return o
}

// NewUnlimitedOverlay returns an Overlay for the writes of many functions. Each of them has an
// Overlay of its own over it, with limits.
func NewUnlimitedOverlay(base Reader) *Overlay {
	o := NewOverlay(base)
	o.unlimited = true
	return o
}

// Get returns the function's own write, or else what base holds.
func (o *Overlay) Get(key string) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	k, err := o.stateOf(key)
	if err != nil {
		return nil, err
	}
	if k.deleted {
		return nil, ErrNotFound
	}
	if k.written {
		return clone(k.value), nil
	}
	v, err := o.base.Get(key)
	if err != nil {
		return nil, err
	}
	if err := o.countValue(k, v); err != nil {
		return nil, err
	}
	return v, nil
}

// GetAll reads all keys from base in one call.
func (o *Overlay) GetAll(keys ...string) ([][]byte, error) {
	if o.base == nil {
		return nil, errEnded
	}
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			return nil, err
		}
		if _, err := o.stateOf(key); err != nil {
			return nil, err
		}
	}
	values, err := o.base.GetAll(keys...)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		switch k := o.find(key); {
		case k.deleted:
			values[i] = nil
		case k.written:
			values[i] = clone(k.value)
		case values[i] != nil:
			if err := o.countValue(k, values[i]); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

// Scan merges the function's own writes into the records of base. It fixes both when
// it begins, so the loop may put and delete. iter.Pull can keep the iterator longer than the
// Update, so each step looks whether that has ended.
func (o *Overlay) Scan(start, end string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if o.base == nil {
			yield(Entry{}, errEnded)
			return
		}
		pass := func(e Entry, err error) bool {
			if !yield(e, err) {
				return false
			}
			if o.base == nil {
				yield(Entry{}, errEnded)
			}
			return o.base != nil
		}
		own := o.writesWithin(start, end)
		for e, err := range o.base.Scan(start, end) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			replaced := false
			for len(own) > 0 && own[0].key <= e.Key {
				replaced = own[0].key == e.Key
				if !own[0].yield(pass) {
					return
				}
				own = own[1:]
			}
			if replaced {
				continue
			}
			if err := o.scanned(e); err != nil {
				yield(Entry{}, err)
				return
			}
			if !pass(e, nil) {
				return
			}
		}
		for _, k := range own {
			if !k.yield(pass) {
				return
			}
		}
	}
}

// yield passes the record on, unless the function deleted it.
func (k *keyState) yield(yield func(Entry, error) bool) bool {
	return k.deleted || yield(Entry{Key: k.key, Value: clone(k.value)}, nil)
}

// Put keeps a copy of value until the Update commits.
func (o *Overlay) Put(key string, value []byte) error {
	if len(value) > MaxStoredBytes {
		return o.fail(fmt.Errorf("%w: the value has %d bytes, at most %d are allowed", ErrLimit, len(value), MaxStoredBytes))
	}
	return o.write(key, clone(value), false)
}

// Delete hides the record from now on.
func (o *Overlay) Delete(key string) error {
	return o.write(key, nil, true)
}

func (o *Overlay) write(key string, value []byte, deleted bool) error {
	if err := CheckKey(key); err != nil {
		return o.fail(err) // a key that cannot be written fails the Update, a key that is only read does not
	}
	k, err := o.stateOf(key)
	if err != nil {
		return err
	}
	if err := o.addBytes(countedBytes(key, value)); err != nil {
		return err
	}
	k.written, k.deleted, k.value = true, deleted, value
	o.wrote = true
	return nil
}

// Err returns the limit that the function exceeded, if it did. The Update must then
// fail even if the function returned nil, because a part of its writes is missing.
func (o *Overlay) Err() error { return o.err }

// Wrote reports whether there is anything to commit.
func (o *Overlay) Wrote() bool { return o.wrote }

// Bytes returns the size of all keys and values that were touched.
func (o *Overlay) Bytes() int { return o.bytes }

// Writes lists what the function wrote, in key order and each key once. It is for
// the store, after the function has returned.
func (o *Overlay) Writes() iter.Seq[Write] {
	return func(yield func(Write) bool) {
		slices.SortFunc(o.states, byKey)
		for _, k := range o.states {
			if k.written && !yield(Write{Key: k.key, Value: k.value, Deleted: k.deleted}) {
				return
			}
		}
	}
}

// End makes every later use of the Tx an error. The function may have kept the Tx, and
// what base would return then belongs to another state.
func (o *Overlay) End() { o.base = nil }

// writesWithin returns copies of the states of keys written in [start, end), in key order.
func (o *Overlay) writesWithin(start, end string) []keyState {
	var own []keyState
	for _, k := range o.states {
		if k.written && start <= k.key && Before(k.key, end) {
			own = append(own, k)
		}
	}
	slices.SortFunc(own, byKey)
	return own
}

func byKey(a, b keyState) int { return strings.Compare(a.key, b.key) }

// stateOf returns the state of the key, and counts the key if it is new. The pointer is valid
// until the next call.
func (o *Overlay) stateOf(key string) (*keyState, error) {
	if o.base == nil {
		return nil, errEnded
	}
	if k := o.find(key); k != nil {
		return k, nil
	}
	switch {
	case o.unlimited:
	case key == MovedKey:
		o.uncounted = 1
	case InManifest(key) || key == keyringKey:
		if o.manifest++; o.manifest > MaxManifestKeys {
			return nil, o.fail(fmt.Errorf("%w: the transaction touches more than %d keys of the manifest", ErrLimit, MaxManifestKeys))
		}
	case len(o.states)-o.manifest-o.uncounted == MaxUpdateKeys:
		return nil, o.fail(fmt.Errorf("%w: the transaction touches more than %d keys", ErrLimit, MaxUpdateKeys))
	default:
		if err := o.addBytes(len(key)); err != nil {
			return nil, err
		}
	}
	o.states = append(o.states, keyState{key: key})
	return &o.states[len(o.states)-1], nil
}

// find returns the state of the key, or nil if the key was not touched.
func (o *Overlay) find(key string) *keyState {
	for i := range o.states {
		if o.states[i].key == key {
			return &o.states[i]
		}
	}
	return nil
}

// countValue counts a stored value when it is read for the first time.
func (o *Overlay) countValue(k *keyState, value []byte) error {
	if k.read {
		return nil
	}
	k.read = true
	return o.addBytes(countedBytes(k.key, value))
}

// countedBytes leaves out what package sealed may have added. A value that no Put accepts was put below
// the store. It is passed on, so that package sealed can name it.
func countedBytes(key string, value []byte) int {
	if key == MovedKey || InManifest(key) || key == keyringKey {
		return 0
	}
	return max(0, min(len(value), MaxStoredBytes)-MaxTagBytes)
}

func (o *Overlay) scanned(e Entry) error {
	k, err := o.stateOf(e.Key)
	if err != nil {
		return err
	}
	return o.countValue(k, e.Value)
}

func (o *Overlay) addBytes(n int) error {
	o.bytes += n
	if o.bytes > MaxUpdateBytes && !o.unlimited {
		return o.fail(fmt.Errorf("%w: the transaction touches more than %d bytes", ErrLimit, MaxUpdateBytes))
	}
	return nil
}

func (o *Overlay) fail(err error) error {
	o.err = err
	return err
}
