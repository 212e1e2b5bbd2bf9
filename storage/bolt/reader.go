package bolt

import (
	"context"
	"errors"
	"iter"
	"unsafe"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// errEnded is returned to callers that use a Reader after its View has ended.
var errEnded = errors.New("transaction has ended")

// errForeign means that the file has no bucket of this program.
var errForeign = errors.New("the file is a bbolt database of another program; choose another data directory")

// treeOf returns the records that tx began with. They stay mapped until tx ends.
func treeOf(tx *bbolt.Tx) (tree, error) { return openBucket(pagesOf(tx), rootOf(tx)) }

// rootOf returns the page of the bucket of buckets.
func rootOf(tx *bbolt.Tx) uint64 { return uint64(tx.Cursor().Bucket().Root()) }

func pagesOf(tx *bbolt.Tx) pages {
	info := tx.DB().Info()
	// The address is bbolt's mapping, which no garbage collector moves. Info gives it as a
	// number, and a conversion of a number is what go vet warns of.
	first := *(*unsafe.Pointer)(unsafe.Pointer(&info.Data))
	return pages{bytes: unsafe.Slice((*byte)(first), tx.Size()), size: info.PageSize}
}

// A viewReader is the Reader of one run of the function of a View. It does not use bbolt, which trusts its pages. If it
// has no transaction, it begins one for the first record that is not in the memory of the store.
type viewReader struct {
	ctx   context.Context
	store *Store // nil once the run has ended
	state int64  // that the memory had; 0 if nothing was read there
	tx    *bbolt.Tx
	tree  tree // of tx

	failed error // why there is no transaction
	mixed  bool  // the state changed, so the result does not count
}

// errMixed is what a function gets whose run does not count.
var errMixed = errors.New("the state of the store has changed")

// run runs fn. A panic does not count either if the state changed or could not be read.
func (r *viewReader) run(fn func(storage.Reader) error) error {
	defer func() {
		if r.mixed || r.failed != nil {
			recover()
		}
		r.rollback()
		r.store = nil
	}()
	return fn(r)
}

func (r *viewReader) rollback() {
	if r.tx != nil {
		r.tx.Rollback()
	}
}

// begin begins the transaction, if there is none yet.
func (r *viewReader) begin() error {
	switch {
	case r.store == nil:
		return errEnded
	case r.mixed:
		return errMixed
	case r.failed != nil:
		return r.failed
	case r.tx != nil:
		return nil
	}
	tx, err := r.store.beginRead(r.ctx)
	if err == nil {
		r.tx = tx
		err = r.store.guard(func() (err error) { r.tree, err = treeOf(tx); return err })
	}
	if r.failed = err; err != nil {
		r.rollback()
		return err
	}
	if r.mixed = r.state != 0 && r.state != int64(tx.ID()); r.mixed {
		return errMixed
	}
	return nil
}

// remembered returns a copy of a record in the memory of the store.
func (r *viewReader) remembered(key string) (value []byte, ok bool, err error) {
	if r.tx != nil || r.store == nil {
		return nil, false, nil
	}
	value, state, ok := r.store.memory.get(key)
	if !ok {
		return nil, false, nil
	}
	if r.mixed = r.mixed || r.state != 0 && r.state != state; r.mixed {
		return nil, false, errMixed
	}
	r.state = state
	if value == nil {
		return nil, true, storage.ErrNotFound
	}
	return clone(value), true, nil
}

func (r *viewReader) Get(key string) (value []byte, err error) {
	if value, ok, err := r.remembered(key); ok || err != nil {
		return value, err
	}
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	err = r.store.guard(func() error {
		v, err := r.tree.get(key)
		if err == nil {
			value = clone(v)
		}
		return err
	})
	r.store.memory.keep(key, value, err, int64(r.tx.ID()))
	return value, err
}

func (r *viewReader) GetAll(keys ...string) ([][]byte, error) {
	return getAll(r, keys)
}

func (r *viewReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if err := r.begin(); err != nil {
			yield(storage.Entry{}, err)
			return
		}
		next := r.tree.scanner(start)
		scan(r.store, func() (string, []byte, error) {
			if r.store == nil { // iter.Pull can keep the iterator longer than the View
				return "", nil, errEnded
			}
			return next()
		}, end, yield)
	}
}

// A scanner returns the next record, or a key of "" at the end of the tree. It is called only
// within guard.
type scanner func() (key string, value []byte, err error)

// scan yields the records that s returns until end. Only s is guarded: a panic in the loop of the
// caller is no damage, and the caller gets it.
func scan(store *Store, s scanner, end string, yield func(storage.Entry, error) bool) {
	last := ""
	for {
		var e storage.Entry
		err := store.guard(func() error {
			key, value, err := s()
			if err != nil || key == "" || !storage.Before(key, end) {
				return err
			}
			if key <= last {
				return damaged("the record %s follows the record %s", storage.QuoteKey(key), storage.QuoteKey(last))
			}
			e = storage.Entry{Key: key, Value: clone(value)}
			return nil
		})
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		if last = e.Key; last == "" || !yield(e, nil) {
			return
		}
	}
}

// scanner returns the records from start on.
func (t tree) scanner(start string) scanner {
	var l leaf
	i, begun := 0, false
	return func() (string, []byte, error) {
		var err error
		if !begun {
			if l, err = t.verify(start, false); err != nil {
				return "", nil, err
			}
			if i = l.search(start); i > 0 && string(l.key(i-1)) == start {
				i--
			}
			begun = true
		}
		if i == l.count && l.next != nil {
			// No leaf but the root is empty, so there is at least one record.
			if l, err = t.verify(string(l.next), false); err != nil {
				return "", nil, err
			}
			i = 0
		}
		if i == l.count {
			return "", nil, nil
		}
		i++
		return string(l.key(i - 1)), l.value(i - 1), nil
	}
}

// A groupReader reads what the functions of a group before this one applied. It is
// the base of an Overlay, which checks the keys and ends the transaction. bbolt reads what the
// group has written; the pages on the path there were checked before.
type groupReader struct {
	store   *Store
	tree    tree // before the group
	bucket  *bbolt.Bucket
	cursor  *bbolt.Cursor       // for single reads; a new cursor for each would double their cost
	written map[string]struct{} // keys that the group has put or deleted
}

func (r *groupReader) Get(key string) (value []byte, err error) {
	_, changed := r.written[key]
	if !changed {
		// The memory has the state before the group, because only the goroutine that runs this commits.
		if value, _, ok := r.store.memory.get(key); ok && value == nil {
			return nil, storage.ErrNotFound
		} else if ok {
			return clone(value), nil
		}
	}
	err = r.store.guard(func() error {
		if !changed {
			v, err := r.tree.get(key)
			if err == nil {
				value = clone(v)
			}
			return err
		}
		k, v := r.cursor.Seek([]byte(key)) // or the record after it
		if string(k) != key {
			return storage.ErrNotFound
		}
		value = clone(v)
		return nil
	})
	if !changed {
		r.store.memory.keep(key, value, err, r.store.synced.Load())
	}
	return value, err
}

func (r *groupReader) GetAll(keys ...string) ([][]byte, error) {
	return getAll(r, keys)
}

func (r *groupReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) { scan(r.store, r.scanner(start), end, yield) }
}

// scanner returns the records from start on. It checks a leaf before bbolt's cursor moves
// into it.
func (r *groupReader) scanner(start string) scanner {
	if len(r.written) == 0 {
		return r.tree.scanner(start)
	}
	c := r.bucket.Cursor()
	begun := false
	var edge []byte // first key of the leaf that was checked last; nil if there is none after it
	return func() (string, []byte, error) {
		var k, v []byte
		var err error
		if !begun {
			begun = true
			if edge, err = r.tree.ahead(start); err != nil {
				return "", nil, err
			}
			k, v = c.Seek([]byte(start))
		} else {
			k, v = c.Next()
		}
		for edge != nil && string(k) >= string(edge) {
			if edge, err = r.tree.ahead(string(edge)); err != nil {
				return "", nil, err
			}
		}
		return string(k), v, nil
	}
}

// ahead checks the leaf of the key and the leaf after it, into which a cursor moves from the
// last record. It returns the first key of the second one, or nil.
func (t tree) ahead(key string) ([]byte, error) {
	l, err := t.verify(key, false)
	if err != nil || l.next == nil {
		return nil, err
	}
	_, err = t.verify(string(l.next), false)
	return l.next, err
}

func getAll(r storage.Reader, keys []string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		v, err := r.Get(key)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

// clone copies out of bbolt's pages, which are reused when the transaction ends. It
// never returns nil: in bbolt, and in GetAll, nil means an absent record.
func clone(b []byte) []byte {
	return append([]byte{}, b...)
}
