package diagnose

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"

	"keymill/storage"
)

// A rehearsal is a Store whose writes are forgotten: doctor opens the keys with it, as a
// server would, and the file stays as it is. One goroutine at a time.
type rehearsal struct {
	base   storage.Store
	writes map[string][]byte // key → value, nil once deleted
}

func newRehearsal(base storage.Store) *rehearsal {
	return &rehearsal{base, map[string][]byte{}}
}

func (r *rehearsal) View(ctx context.Context, fn func(storage.Reader) error) error {
	return r.base.View(ctx, func(base storage.Reader) error { return fn(rehearsalTx{base, r.writes}) })
}

func (r *rehearsal) Update(ctx context.Context, fn func(storage.Tx) error) error {
	return r.base.View(ctx, func(base storage.Reader) error {
		draft := maps.Clone(r.writes)
		if err := fn(rehearsalTx{base, draft}); err != nil {
			return err
		}
		r.writes = draft
		return nil
	})
}

// Close leaves base open: it is the caller's.
func (r *rehearsal) Close() error { return nil }

type rehearsalTx struct {
	base   storage.Reader
	writes map[string][]byte
}

func (t rehearsalTx) Get(key string) ([]byte, error) {
	value, written := t.writes[key]
	switch {
	case !written:
		return t.base.Get(key)
	case value == nil:
		return nil, storage.ErrNotFound
	}
	return slices.Clone(value), nil
}

func (t rehearsalTx) GetAll(keys ...string) ([][]byte, error) {
	values, err := t.base.GetAll(keys...)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if value, written := t.writes[key]; written {
			values[i] = slices.Clone(value)
		}
	}
	return values, nil
}

func (t rehearsalTx) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		var entries []storage.Entry
		for e, err := range t.base.Scan(start, end) {
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			if _, written := t.writes[e.Key]; !written {
				entries = append(entries, e)
			}
		}
		for key, value := range t.writes {
			if value != nil && start <= key && key < end {
				entries = append(entries, storage.Entry{Key: key, Value: slices.Clone(value)})
			}
		}
		slices.SortFunc(entries, func(a, b storage.Entry) int { return cmp.Compare(a.Key, b.Key) })
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (t rehearsalTx) Put(key string, value []byte) error {
	t.writes[key] = append([]byte{}, value...) // never nil, which means deleted
	return nil
}

func (t rehearsalTx) Delete(key string) error {
	t.writes[key] = nil
	return nil
}
