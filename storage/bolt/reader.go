package bolt

import (
	"bytes"
	"errors"
	"iter"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// errEnded is returned to callers that use a Reader after its View has ended.
var errEnded = errors.New("transaction has ended")

// A viewReader is the Reader of one View.
type viewReader struct {
	bucket *bbolt.Bucket // nil once the View has ended
}

func (r *viewReader) Get(key string) ([]byte, error) {
	if r.bucket == nil {
		return nil, errEnded
	}
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	v := r.bucket.Get([]byte(key))
	if v == nil {
		return nil, storage.ErrNotFound
	}
	return clone(v), nil
}

func (r *viewReader) GetAll(keys ...string) ([][]byte, error) {
	return getAll(r, keys)
}

func (r *viewReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if r.bucket == nil {
			yield(storage.Entry{}, errEnded)
			return
		}
		scan(r.bucket, start, end, yield)
	}
}

// A groupReader reads what the functions of a group before this one applied. It is
// the base of an Overlay, which checks the keys and ends the transaction.
type groupReader struct {
	bucket *bbolt.Bucket
	cursor *bbolt.Cursor // for single reads; a new cursor for each would double their cost
}

func (r *groupReader) Get(key string) ([]byte, error) {
	k, v := r.cursor.Seek([]byte(key)) // or the record after it
	if string(k) != key {
		return nil, storage.ErrNotFound
	}
	return clone(v), nil
}

func (r *groupReader) GetAll(keys ...string) ([][]byte, error) {
	return getAll(r, keys)
}

func (r *groupReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) { scan(r.bucket, start, end, yield) }
}

func scan(bucket *bbolt.Bucket, start, end string, yield func(storage.Entry, error) bool) {
	c, bound := bucket.Cursor(), []byte(end)
	for k, v := c.Seek([]byte(start)); k != nil && bytes.Compare(k, bound) < 0; k, v = c.Next() {
		if !yield(storage.Entry{Key: string(k), Value: clone(v)}, nil) {
			return
		}
	}
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
