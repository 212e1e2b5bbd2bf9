package storage

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"sort"

	"go.etcd.io/bbolt"
)

// errEnded meets who keeps a Reader or a Tx for later.
var errEnded = errors.New("transaction has ended")

// A boltReader reads one state of the bucket. bbolt hands out its own pages, which
// are reused when the transaction ends, so everything is copied.
type boltReader struct {
	bucket *bbolt.Bucket // nil once the transaction has ended
}

func (r *boltReader) Get(key string) ([]byte, error) {
	if r.bucket == nil {
		return nil, errEnded
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	v := r.bucket.Get([]byte(key))
	if v == nil {
		return nil, ErrNotFound
	}
	return clone(v), nil
}

func (r *boltReader) GetAll(keys ...string) ([][]byte, error) {
	return getAll(r, keys)
}

func (r *boltReader) Scan(start, end string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if r.bucket == nil {
			yield(Entry{}, errEnded)
			return
		}
		c, bound := r.bucket.Cursor(), []byte(end)
		for k, v := c.Seek([]byte(start)); k != nil && bytes.Compare(k, bound) < 0; k, v = c.Next() {
			if !yield(Entry{Key: string(k), Value: clone(v)}, nil) {
				return
			}
		}
	}
}

// A boltTx is one function's view of the group's transaction: what the functions
// before it applied, and over that its own writes, which nobody else sees until it
// has succeeded.
type boltTx struct {
	bucket *bbolt.Bucket // as the functions before left it; nil once this one has ended
	cursor *bbolt.Cursor // of the group, for single reads: a new one for each is half their cost
	cells  []cell        // by first touch; so few that looking through them beats a map
	bytes  int           // touched so far
	wrote  bool
	spoilt error           // a limit or a write that failed; fn cannot overlook it
	room   [usualKeys]cell // where cells begins
}

// usualKeys is how many keys most functions touch at most.
const usualKeys = 8

// A cell is one key that a function touched.
type cell struct {
	key     string
	read    bool // its stored value has been counted
	written bool
	deleted bool
	value   []byte // if written and not deleted; replaced, never changed
}

func newBoltTx(bucket *bbolt.Bucket, cursor *bbolt.Cursor) *boltTx {
	t := &boltTx{bucket: bucket, cursor: cursor}
	t.cells = t.room[:0]
	return t
}

func (t *boltTx) Get(key string) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	c, err := t.touch(key)
	if err != nil {
		return nil, err
	}
	if c.deleted {
		return nil, ErrNotFound
	}
	if c.written {
		return clone(c.value), nil
	}
	k, v := t.cursor.Seek([]byte(key)) // or what follows it
	if string(k) != key {
		return nil, ErrNotFound
	}
	if err := t.count(c, v); err != nil {
		return nil, err
	}
	return clone(v), nil
}

func (t *boltTx) GetAll(keys ...string) ([][]byte, error) {
	return getAll(t, keys)
}

// Scan goes over the records as they are when it begins; the loop may put and
// delete as it likes.
func (t *boltTx) Scan(start, end string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if t.bucket == nil {
			yield(Entry{}, errEnded)
			return
		}
		own := t.writes(start, end)
		c, bound := t.bucket.Cursor(), []byte(end)
		k, v := c.Seek([]byte(start))
		for {
			stored := k != nil && bytes.Compare(k, bound) < 0
			var e Entry
			switch {
			case len(own) > 0 && (!stored || own[0].key <= string(k)):
				w := own[0]
				own = own[1:]
				if stored && w.key == string(k) {
					k, v = c.Next() // shadowed
				}
				if w.deleted {
					continue
				}
				e = Entry{Key: w.key, Value: clone(w.value)}
			case stored:
				e = Entry{Key: string(k), Value: clone(v)}
				if err := t.scanned(e); err != nil {
					yield(Entry{}, err)
					return
				}
				k, v = c.Next()
			default:
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (t *boltTx) Put(key string, value []byte) error {
	if len(value) > MaxValueBytes {
		return t.spoil(fmt.Errorf("%w: value of %d bytes, at most %d", ErrLimit, len(value), MaxValueBytes))
	}
	return t.write(key, clone(value), false)
}

func (t *boltTx) Delete(key string) error {
	return t.write(key, nil, true)
}

func (t *boltTx) write(key string, value []byte, deleted bool) error {
	if err := checkKey(key); err != nil {
		return t.spoil(err)
	}
	c, err := t.touch(key)
	if err != nil {
		return err
	}
	if err := t.spend(len(value)); err != nil {
		return err
	}
	c.written, c.deleted, c.value = true, deleted, value
	t.wrote = true
	return nil
}

// verdict is what the Update returns. A function that goes on after a limit would
// otherwise commit half of what it meant to.
func (t *boltTx) verdict(err error) error {
	if err != nil {
		return err
	}
	return t.spoilt
}

// apply moves the writes into the group's transaction. An error leaves that
// transaction half written, and useless.
func (t *boltTx) apply() error {
	for _, c := range t.cells {
		var err error
		switch {
		case c.deleted:
			err = t.bucket.Delete([]byte(c.key))
		case c.written:
			err = t.bucket.Put([]byte(c.key), c.value)
		}
		if err != nil {
			return fmt.Errorf("apply writes: %w", err)
		}
	}
	return nil
}

// writes returns this function's own writes in [start, end), in key order.
func (t *boltTx) writes(start, end string) []cell {
	var own []cell
	for _, c := range t.cells {
		if c.written && start <= c.key && c.key < end {
			own = append(own, c)
		}
	}
	sort.Slice(own, func(i, j int) bool { return own[i].key < own[j].key })
	return own
}

// touch counts key among those of this Update. The cell stays where it is until the
// next touch.
func (t *boltTx) touch(key string) (*cell, error) {
	if t.bucket == nil {
		return nil, errEnded
	}
	for i := range t.cells {
		if t.cells[i].key == key {
			return &t.cells[i], nil
		}
	}
	if len(t.cells) == MaxUpdateKeys {
		return nil, t.spoil(fmt.Errorf("%w: more than %d keys", ErrLimit, MaxUpdateKeys))
	}
	if err := t.spend(len(key)); err != nil {
		return nil, err
	}
	t.cells = append(t.cells, cell{key: key})
	return &t.cells[len(t.cells)-1], nil
}

// count spends a stored value, the first time that it is read.
func (t *boltTx) count(c *cell, value []byte) error {
	if c.read {
		return nil
	}
	c.read = true
	return t.spend(len(value))
}

func (t *boltTx) scanned(e Entry) error {
	c, err := t.touch(e.Key)
	if err != nil {
		return err
	}
	return t.count(c, e.Value)
}

func (t *boltTx) spend(n int) error {
	t.bytes += n
	if t.bytes > MaxUpdateBytes {
		return t.spoil(fmt.Errorf("%w: more than %d bytes", ErrLimit, MaxUpdateBytes))
	}
	return nil
}

func (t *boltTx) spoil(err error) error {
	t.spoilt = err
	return err
}

func getAll(r Reader, keys []string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		v, err := r.Get(key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

func checkKey(key string) error {
	if len(key) == 0 || len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: key of %d bytes, 1 to %d are allowed", ErrLimit, len(key), MaxKeyBytes)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return fmt.Errorf("%w: key %q is not printable ASCII", ErrLimit, key)
		}
	}
	return nil
}

// clone never returns nil: in bbolt, and in GetAll, nil is an absent record.
func clone(b []byte) []byte {
	return append([]byte{}, b...)
}
