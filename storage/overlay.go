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
	base      Reader // nil once the Overlay has ended
	cells     []cell // in the order of the first touch; a linear search of so few beats a map
	bytes     int    // touched so far
	wrote     bool
	unlimited bool             // set by DryRun, which holds the writes of many Updates
	err       error            // the limit that was exceeded
	first     [usualCells]cell // the backing array of cells, until it is full
}

// usualCells is how many keys most functions touch at most. They need no second
// allocation.
const usualCells = 8

// A cell is one key that the function touched.
type cell struct {
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
	o.cells = o.first[:0]
	return o
}

// Get returns the function's own write, or else what base holds.
func (o *Overlay) Get(key string) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	c, err := o.touch(key)
	if err != nil {
		return nil, err
	}
	if c.deleted {
		return nil, ErrNotFound
	}
	if c.written {
		return clone(c.value), nil
	}
	v, err := o.base.Get(key)
	if err != nil {
		return nil, err
	}
	if err := o.count(c, v); err != nil {
		return nil, err
	}
	return v, nil
}

// GetAll asks base once for all keys.
func (o *Overlay) GetAll(keys ...string) ([][]byte, error) {
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			return nil, err
		}
		if _, err := o.touch(key); err != nil {
			return nil, err
		}
	}
	values, err := o.base.GetAll(keys...)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		switch c := o.find(key); {
		case c.deleted:
			values[i] = nil
		case c.written:
			values[i] = clone(c.value)
		case values[i] != nil:
			if err := o.count(c, values[i]); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

// Scan merges the function's own writes into the records of base. It fixes both when
// it begins, so the loop may put and delete.
func (o *Overlay) Scan(start, end string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if o.base == nil {
			yield(Entry{}, errEnded)
			return
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
				if !own[0].yield(yield) {
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
			if !yield(e, nil) {
				return
			}
		}
		for _, c := range own {
			if !c.yield(yield) {
				return
			}
		}
	}
}

// yield passes the record on, unless the function deleted it.
func (c *cell) yield(yield func(Entry, error) bool) bool {
	return c.deleted || yield(Entry{Key: c.key, Value: clone(c.value)}, nil)
}

// Put keeps a copy of value until the Update commits.
func (o *Overlay) Put(key string, value []byte) error {
	if len(value) > MaxValueBytes {
		return o.fail(fmt.Errorf("%w: the value has %d bytes, at most %d are allowed", ErrLimit, len(value), MaxValueBytes))
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
	c, err := o.touch(key)
	if err != nil {
		return err
	}
	if err := o.spend(len(value)); err != nil {
		return err
	}
	c.written, c.deleted, c.value = true, deleted, value
	o.wrote = true
	return nil
}

// Err returns the limit that the function exceeded, if it did. The Update must then
// fail even if the function returned nil: it would commit only half of what it meant
// to write.
func (o *Overlay) Err() error { return o.err }

// Wrote reports whether there is anything to commit.
func (o *Overlay) Wrote() bool { return o.wrote }

// Bytes returns the size of all keys and values that were touched.
func (o *Overlay) Bytes() int { return o.bytes }

// Writes lists what the function wrote, in key order and each key once. It is for
// the store, after the function has returned.
func (o *Overlay) Writes() iter.Seq[Write] {
	return func(yield func(Write) bool) {
		slices.SortFunc(o.cells, byKey)
		for _, c := range o.cells {
			if c.written && !yield(Write{Key: c.key, Value: c.value, Deleted: c.deleted}) {
				return
			}
		}
	}
}

// End makes every later use of the Tx an error. The function may have kept the Tx, and
// what base would return then belongs to another state.
func (o *Overlay) End() { o.base = nil }

// writesWithin returns copies of the cells written in [start, end), in key order.
func (o *Overlay) writesWithin(start, end string) []cell {
	var own []cell
	for _, c := range o.cells {
		if c.written && start <= c.key && c.key < end {
			own = append(own, c)
		}
	}
	slices.SortFunc(own, byKey)
	return own
}

func byKey(a, b cell) int { return strings.Compare(a.key, b.key) }

// touch returns the key's cell, and counts the key if it is new. The cell stays where
// it is until the next touch.
func (o *Overlay) touch(key string) (*cell, error) {
	if o.base == nil {
		return nil, errEnded
	}
	if c := o.find(key); c != nil {
		return c, nil
	}
	if len(o.cells) == MaxUpdateKeys && !o.unlimited {
		return nil, o.fail(fmt.Errorf("%w: the transaction touches more than %d keys", ErrLimit, MaxUpdateKeys))
	}
	if err := o.spend(len(key)); err != nil {
		return nil, err
	}
	o.cells = append(o.cells, cell{key: key})
	return &o.cells[len(o.cells)-1], nil
}

// find returns the key's cell, nil if the key was not touched.
func (o *Overlay) find(key string) *cell {
	for i := range o.cells {
		if o.cells[i].key == key {
			return &o.cells[i]
		}
	}
	return nil
}

// count spends a stored value when it is read for the first time.
func (o *Overlay) count(c *cell, value []byte) error {
	if c.read {
		return nil
	}
	c.read = true
	return o.spend(len(value))
}

func (o *Overlay) scanned(e Entry) error {
	c, err := o.touch(e.Key)
	if err != nil {
		return err
	}
	return o.count(c, e.Value)
}

func (o *Overlay) spend(n int) error {
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
