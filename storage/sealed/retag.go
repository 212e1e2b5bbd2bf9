package sealed

import (
	"context"
	"errors"
	"strings"

	"keymill/storage"
)

// Bounds of one transaction of Retag, below those of an Update: it reads and writes each record, and
// perhaps a page of the manifest for it.
const (
	retagKeys  = storage.MaxUpdateKeys
	retagPages = storage.MaxManifestKeys - 3 // one record can add one page, and the root and the keyring are two more
	retagBytes = storage.MaxUpdateBytes / 4
)

// retagEnd is the cursor behind all keys. It stays in the manifest after the end: a keyring with both data
// keys that is put back later opens no record of the previous one.
const retagEnd = "\x7f"

// Retagging reports whether records of the previous generation are left.
func (s *Store) Retagging() bool { return s.state.Load().previous != nil }

// Retag tags every record of the previous generation again, in key order. The manifest holds its
// cursor, so it continues where it was after a crash. Other transactions can run beside it. A
// damaged record stays as it is. progress is called after each transaction with the number of
// records so far and the last key; it may be nil.
//
// When Retag returns nil, no record needs the previous data key. The caller removes it from the
// keyring and then calls Retagged.
func (s *Store) Retag(ctx context.Context, progress func(records int, key string)) error {
	if progress == nil {
		progress = func(int, string) {}
	}
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	st := s.state.Load()
	done, next := 0, st.cursor
	for {
		if now := s.state.Load(); now.current != st.current {
			st, next = now, now.cursor // another server has changed the data key
		}
		if st.previous == nil || s.state.Load().cursor == retagEnd {
			return nil
		}
		keys, last, following, err := s.olderKeys(ctx, st, next)
		if err != nil {
			return err
		}
		next = following
		end := last + " " // the first key of this program that can follow
		switch {
		case next == "":
			end = retagEnd
		case last == "":
			continue
		}
		for more := true; more; more = len(keys) > 0 {
			n, cursor, err := s.retag(ctx, st, keys, end)
			if err != nil {
				return err
			}
			keys = keys[n:]
			done += n
			s.advance(st.current, cursor)
			if cursor < end {
				progress(done, strings.TrimSuffix(cursor, " "))
			} else if last != "" {
				progress(done, last)
			}
		}
	}
}

// Retagged ends the time of two generations. From here on only records of the current one fit. On a shared store
// Refresh does so.
func (s *Store) Retagged() {
	if s.shared != nil {
		return
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	next := *s.state.Load()
	next.previous, next.cursor = nil, ""
	s.state.Store(&next)
}

// olderKeys returns the keys of the previous generation among 1,000 records from start on, the last key of
// the 1,000 that a cursor can follow, "" if there is none, and where the next 1,000 begin, "" at the end.
//
// The cursor is text in the manifest, so it follows no key that was put below the store and is not ASCII.
func (s *Store) olderKeys(ctx context.Context, st *state, start string) (keys []string, last, next string, err error) {
	err = s.base.View(ctx, func(r storage.Reader) error {
		keys, last, next = nil, "", ""
		n := 0
		for e, err := range r.Scan(start, retagEnd) {
			if err != nil {
				return err
			}
			if n++; n > entriesPerView {
				next = e.Key
				break
			}
			if storage.CheckKey(e.Key) != nil {
				continue
			}
			if last = e.Key; !untagged(e.Key) && e.Key != rootKey {
				if _, _, ok := st.previous.check(e.Key, e.Value); ok {
					keys = append(keys, e.Key)
				}
			}
		}
		return nil
	})
	return keys, last, next, err
}

// retag writes the first of the keys again, and the cursor: behind the last one of them, or
// end if these were all. It returns how many keys are done. If another server has ended the change of st, or
// made a later one, there is nothing to do.
//
// A crash before the commit leaves the cursor where it was; after it, Retag continues from there.
func (s *Store) retag(ctx context.Context, st *state, keys []string, end string) (done int, cursor string, err error) {
	err = s.update(ctx, func(t *transaction) error {
		return t.run(func(storage.Tx) error {
			if err := t.loadRoot(); err != nil {
				return err
			}
			if t.state.previous == nil || t.state.current.generation != st.current.generation {
				done, cursor = len(keys), ""
				return nil
			}
			done, cursor = 0, end
			bytes := 0
			for _, key := range keys {
				if done == retagKeys || len(t.pages) >= retagPages || bytes > retagBytes {
					cursor = keys[done-1] + " "
					break
				}
				n, err := t.retag(key)
				if err != nil {
					return err
				}
				done, bytes = done+1, bytes+n
			}
			// Two servers can tag the records again at the same time. The cursor goes back for none of them.
			cursor = max(cursor, t.root.Retagged)
			t.root.Retagged, t.written = cursor, true
			return nil
		})
	})
	return done, cursor, err
}

// retag writes one record again, unless it has been written or removed in between. It returns the
// size of its value.
func (t *transaction) retag(key string) (int, error) {
	stored, err := t.base.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	value, _, ok := t.state.previous.check(key, stored)
	if !ok {
		return len(stored), nil
	}
	if storage.InManifest(key) {
		_, err := t.page(strings.TrimPrefix(key, rootKey+"/"))
		return len(value), err
	}
	if !covered(key) {
		_, err := t.put(key, value)
		return len(value), err
	}
	if err := t.checkEntry(key); err != nil {
		if errors.Is(err, storage.ErrDamaged) {
			return len(value), nil // it stays as it is
		}
		return 0, err
	}
	sum, err := t.put(key, value)
	if err == nil {
		t.note(key, sum[:])
	}
	return len(value), err
}
