// Package sealed wraps a store so that every record carries a tag. A writer of the store who does
// not have its data key cannot forge, change or move a record without being noticed. If such a writer
// removes a record that administrators write, or puts an older one back, the next start refuses the
// store.
//
//	issuer  keystore  audit     values of callers
//	   └───────┼────────┘
//	        sealed.Store        value ‖ generation (1) ‖ tag (16)
//	           │
//	     bolt, postgres, …      stored values
//
// # Tags
//
// The tag of a record is the first 16 bytes of
//
//	HMAC-SHA256(tag key, generation (4) ‖ length of key (4) ‖ key ‖ length of value (4) ‖ value)
//
// with numbers in big-endian byte order. The tag key is HKDF-SHA256 of the data key, with a label
// of its own and the database id, so a record of another store does not fit either. The byte
// before the tag is the low byte of the generation. A forged tag of 16 bytes is right once in
// 2^128 attempts, and each attempt needs an answer of the server.
//
// The records meta and keyring have no tag: keystore binds them to the master key. A Store passes
// them on and does not write them.
//
// # Manifest
//
// Tags cannot show that a record is missing or that an older one was put back. The manifest can,
// for the records that change at the pace of administrators (manifest.go). Sessions, users and the
// audit log are not in it: a record that every login changes would be a queue for all logins.
//
// # Change of the data key
//
// After a change of the master key there are two generations of the data key. Retag tags the
// records again in key order. Behind its cursor a record of the older generation is forged, ahead
// of it both generations are accepted (retag.go).
//
// # Rollback
//
// A Mark is a small file outside the store that remembers how long the store has been served. A
// store that was served for less than its mark is an older copy (mark.go).
package sealed

import (
	"context"
	"iter"
	"sync/atomic"

	"keymill/storage"
)

// A Generation is one data key of a store. Numbers begin with 1 and grow by 1.
type Generation struct {
	Number  uint32
	DataKey [32]byte
}

// Keys are what the tags of a store depend on.
type Keys struct {
	Database string // database id
	Current  Generation
	Previous *Generation // its records are tagged again by Retag; nil if there are none
}

// A Store is a storage.Store over another one.
type Store struct {
	base   storage.Store
	state  atomic.Pointer[state]
	damage damage
}

// A state is what checking a record needs. It is replaced, never changed.
type state struct {
	current  *tagger
	previous *tagger // nil if all records have tags of current
	cursor   string  // records before it have tags of current
	changing bool    // in the transaction that makes current
}

// New returns a Store over base, which holds records that a Store with these keys has written,
// besides meta and keyring. With a previous generation it reads how far Retag came.
func New(ctx context.Context, base storage.Store, keys Keys) (*Store, error) {
	s, err := newStore(base, keys)
	if err != nil || keys.Previous == nil {
		return s, err
	}
	err = s.View(ctx, func(r storage.Reader) error {
		m, err := r.(*reader).readRoot()
		if err != nil {
			return err
		}
		next := *s.state.Load()
		next.cursor = m.Retagged
		s.state.Store(&next)
		return nil
	})
	return s, err
}

func newStore(base storage.Store, keys Keys) (*Store, error) {
	current, err := newTagger(keys.Database, keys.Current)
	if err != nil {
		return nil, err
	}
	st := &state{current: current}
	if keys.Previous != nil {
		if st.previous, err = newTagger(keys.Database, *keys.Previous); err != nil {
			return nil, err
		}
	}
	s := &Store{base: base}
	s.state.Store(st)
	return s, nil
}

// View implements storage.Store.
func (s *Store) View(ctx context.Context, fn func(storage.Reader) error) error {
	// The state is read before the View begins: the records that fn sees are at least as new.
	st := s.state.Load()
	run := new(reader) // of all runs, which follow one another: a reader for each would cost bbolt an allocation
	err := s.base.View(ctx, func(r storage.Reader) error {
		*run = reader{base: r, state: st, damage: &s.damage}
		run.result = fn(run)
		return run.result
	})
	run.settle(err)
	return err
}

// Update implements storage.Store.
func (s *Store) Update(ctx context.Context, fn func(storage.Tx) error) error {
	return s.update(ctx, func(t *transaction) error {
		if err := t.run(fn); err != nil || !storage.IsRehearsal(ctx) {
			return err
		}
		return storage.ErrRehearsed
	})
}

// update runs fn, and then remembers the damage that the run which counts has found.
func (s *Store) update(ctx context.Context, fn func(*transaction) error) error {
	run := new(transaction)
	err := s.base.Update(ctx, func(tx storage.Tx) error {
		*run = s.transaction(tx)
		run.result = fn(run)
		return run.result
	})
	run.settle(err)
	return err
}

// Create runs fn as the first transaction of a store.
func Create(tx storage.Tx, keys Keys, fn func(storage.Tx) error) error {
	s, err := newStore(nil, keys)
	if err != nil {
		return err
	}
	t := s.transaction(tx)
	t.root, t.written = &root{Pages: map[string][]byte{}}, true
	return t.run(fn)
}

// Change runs fn in the transaction that makes keys.Current. fn must put every record for which
// rewritten returns true. It sees records of both generations.
func Change(tx storage.Tx, keys Keys, fn func(storage.Tx) error) error {
	s, err := newStore(nil, keys)
	if err != nil {
		return err
	}
	s.state.Load().changing = true // no one else has s
	t := s.transaction(tx)
	return t.run(fn)
}

func (s *Store) transaction(tx storage.Tx) transaction {
	return transaction{reader: reader{base: tx, state: s.state.Load(), damage: &s.damage}, tx: tx}
}

// Status returns that of the store below.
func (s *Store) Status() storage.Status { return s.base.Status() }

// Close closes the store below.
func (s *Store) Close() error { return s.base.Close() }

// Damaged returns the records that were found damaged and have not been found whole since, in key
// order and at most 1,000 of a kind. The kind of a record is its key up to the first slash.
func (s *Store) Damaged() []*storage.DamageError { return s.damage.list() }

// untagged reports whether a record has no tag because keystore binds it in another way.
func untagged(key string) bool { return key == "meta" || key == "keyring" }

// A reader checks and removes tags.
type reader struct {
	base   storage.Reader
	state  *state
	damage *damage   // of the Store
	found  []finding // in this run of the function
	result error     // of this run
}

func (r *reader) Get(key string) ([]byte, error) {
	v, err := r.base.Get(key)
	if err != nil {
		return nil, err
	}
	return r.open(key, v)
}

func (r *reader) GetAll(keys ...string) ([][]byte, error) {
	values, err := r.base.GetAll(keys...)
	if err != nil {
		return nil, err
	}
	for n, v := range values {
		if v == nil {
			continue
		}
		if values[n], err = r.open(keys[n], v); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (r *reader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range r.base.Scan(start, end) {
			if err != nil {
				yield(e, err)
				return
			}
			e.Value, err = r.open(e.Key, e.Value)
			if !yield(e, err) {
				return
			}
		}
	}
}

// open returns the value of a stored record.
func (r *reader) open(key string, stored []byte) ([]byte, error) {
	if untagged(key) {
		return stored, nil
	}
	value, _, err := r.verify(key, stored)
	return value, err
}
