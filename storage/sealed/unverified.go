package sealed

import (
	"context"
	"errors"
	"iter"

	"keymill/storage"
)

// Unverified returns a store that removes the tags of base without checking them. It is for reading a
// store whose master key is not at hand. Its records prove nothing. An Update is an error.
func Unverified(base storage.Store) storage.Store { return unverified{base} }

type unverified struct{ storage.Store }

func (u unverified) View(ctx context.Context, fn func(storage.Reader) error) error {
	return u.Store.View(ctx, func(r storage.Reader) error { return fn(stripped{r}) })
}

func (unverified) Update(context.Context, func(storage.Tx) error) error {
	return errors.New("the store is open without its master key, to be read only")
}

// A stripped removes tags.
type stripped struct{ base storage.Reader }

func (s stripped) Get(key string) ([]byte, error) {
	v, err := s.base.Get(key)
	if err != nil {
		return nil, err
	}
	return strip(key, v)
}

func (s stripped) GetAll(keys ...string) ([][]byte, error) {
	values, err := s.base.GetAll(keys...)
	for n, v := range values {
		if v != nil && err == nil {
			values[n], err = strip(keys[n], v)
		}
	}
	return values, err
}

func (s stripped) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range s.base.Scan(start, end) {
			if err == nil {
				e.Value, err = strip(e.Key, e.Value)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func strip(key string, stored []byte) ([]byte, error) {
	n := len(stored) - trailerBytes
	switch {
	case untagged(key):
		return stored, nil
	case n < 0:
		return nil, storage.Damaged(key, "it has no tag")
	}
	return stored[:n:n], nil
}
