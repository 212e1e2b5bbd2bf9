package storage

import (
	"context"
	"iter"
)

// recordsPerView bounds the time of one View of Records.
const recordsPerView = 1000

// Records returns the records of a store that does not change, in key order. It reads them in several Views, so that
// none of them takes long. An error is the last value.
func Records(ctx context.Context, s Store) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for start, more := "", true; more; {
			var page []Entry
			err := s.View(ctx, func(r Reader) error {
				page, more = nil, false
				for e, err := range r.Scan(start, "") {
					if err != nil {
						return err
					}
					if page = append(page, e); len(page) == recordsPerView {
						more = true
						break
					}
				}
				return nil
			})
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if more {
				start = After(page[len(page)-1].Key)
			}
		}
	}
}

// NextWrites calls next for the writes of one transaction: at most keys of them, and no more after so many bytes. It
// returns the error that ended them, io.EOF after the last one, beside those that came before it.
func NextWrites(next func() (Write, error), keys, bytes int) (batch []Write, end error) {
	for size := 0; len(batch) < keys && size < bytes; {
		w, err := next()
		if err != nil {
			return batch, err
		}
		batch = append(batch, w)
		size += len(w.Key) + len(w.Value)
	}
	return batch, nil
}
