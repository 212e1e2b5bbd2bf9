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
// So the owner of a database can put back the value that a single one of these records had before. It is
// noticed only where something knows better: a counter, such as the generation in a refresh token, an epoch, or the cache
// of a running server. The versions by which a store on the network compares records are covered by no tag.
//
// # Change of the data key
//
// After a change of the master key there are two generations of the data key. Retag tags the
// records again in key order. Behind its cursor a record of the older generation is forged, ahead
// of it both generations are accepted (retag.go).
//
// # Several servers
//
// On a store that several servers use, one of them can change the keys while the others work, and one that was
// paused for hours can go on at any instruction. So a Store that is told to Share compares the record keyring,
// byte by byte, in each Update. If it has changed, nothing is written: the Store reads the keys again, and the
// function runs again with them. So a new data key can be used at once, and need not be known to all servers first:
//
//	Update   record keyring as I know it ─▶ fn ─▶ tags of that data key
//	         otherwise ─▶ Refresh ─▶ again
//	View     a tag does not fit ─▶ Refresh ─▶ again, once, if there are other keys
//
// The keyring also holds the life of the store, which a restore raises. A Store of another life refuses all work with a
// *LifeError, and its process has to end. A View does not compare: it can show the store as it was before the last Refresh,
// which the server calls every few seconds.
//
// # Rollback
//
// A Mark is a small file outside the store that remembers how long the store has been served. A
// store that was served for less than its mark is an older copy (mark.go).
package sealed

import (
	"context"
	"iter"
	"sync"
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
	Life     uint64 // grows when the store is made of a copy
	Current  Generation
	Previous *Generation // its records are tagged again by Retag; nil if there are none
}

// A Store is a storage.Store over another one.
type Store struct {
	base   storage.Store
	state  atomic.Pointer[state]
	damage damage

	shared   *sharing                  // nil if no other server uses the store
	ended    atomic.Pointer[LifeError] // why the Store refuses all work; nil while it works
	changing sync.Mutex                // held while a state replaces another
}

// A state is what checking a record needs. It is replaced, never changed.
type state struct {
	current  *tagger
	previous *tagger // nil if all records have tags of current
	cursor   string  // records before it have tags of current
	changing bool    // in the transaction that makes current
	life     uint64
	record   []byte // the record keyring with these keys, if the store is shared
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
	st := &state{current: current, life: keys.Life}
	if keys.Previous != nil {
		if st.previous, err = newTagger(keys.Database, *keys.Previous); err != nil {
			return nil, err
		}
	}
	s := &Store{base: base}
	s.state.Store(st)
	return s, nil
}

// View implements storage.Store. On a shared store fn runs again with new keys if a tag did not fit and the keys have
// changed.
func (s *Store) View(ctx context.Context, fn func(storage.Reader) error) error {
	st, run, err := s.view(ctx, fn)
	if s.shared == nil || !run.misfit {
		run.settle(err)
		return err
	}
	if refreshErr := s.Refresh(ctx); refreshErr != nil {
		return refreshErr
	}
	if s.state.Load() != st {
		_, run, err = s.view(ctx, fn)
	}
	run.settle(err)
	return err
}

// view runs fn once, and returns the state and the run that counts.
func (s *Store) view(ctx context.Context, fn func(storage.Reader) error) (*state, *reader, error) {
	run := new(reader) // of all runs, which follow one another: a reader for each would cost bbolt an allocation
	// The state is read before the View begins: the records that fn sees are at least as new.
	st := s.state.Load()
	if err := s.failure(); err != nil {
		return st, run, err
	}
	err := s.base.View(ctx, func(r storage.Reader) error {
		*run = reader{base: r, state: st, damage: &s.damage}
		run.result = fn(run)
		return run.result
	})
	return st, run, err
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

// maxRefreshes bounds how often an Update reads the keys again without finding others.
const maxRefreshes = 3

// update runs fn, and then remembers the damage that the run which counts has found. On a shared store fn runs again
// with new keys if they have changed.
func (s *Store) update(ctx context.Context, fn func(*transaction) error) error {
	for same := 0; ; {
		st := s.state.Load()
		if err := s.failure(); err != nil {
			return err
		}
		run := new(transaction)
		err := s.base.Update(ctx, func(tx storage.Tx) error {
			*run = s.transaction(tx)
			if s.shared != nil {
				run.result = run.compareKeyring()
			}
			if run.result == nil {
				run.result = fn(run)
			}
			return run.result
		})
		if err != errKeysChanged {
			run.settle(err)
			return err
		}
		if err := s.Refresh(ctx); err != nil {
			return err
		}
		if s.state.Load() == st {
			same++
		}
		if same == maxRefreshes {
			return explainRefresh(err)
		}
	}
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

// Status returns that of the store below. A Store has also failed if the store was replaced by a copy.
func (s *Store) Status() storage.Status {
	st := s.base.Status()
	if st.Failed == nil {
		st.Failed = s.failure()
	}
	return st
}

// Close closes the store below.
func (s *Store) Close() error { return s.base.Close() }

// Damaged returns the records that were found damaged and have not been found whole since, in key
// order and at most 1,000 of a kind. The kind of a record is its key up to the first slash.
func (s *Store) Damaged() []*storage.DamageError { return s.damage.list() }

// untagged reports whether a record has no tag: keystore binds it in another way, or a migration without the master key
// writes it, below a Store.
func untagged(key string) bool {
	return key == "meta" || key == keyringKey || key == storage.MovedKey
}

// A reader checks and removes tags.
type reader struct {
	base   storage.Reader
	state  *state
	damage *damage   // of the Store
	found  []finding // in this run of the function
	misfit bool      // a tag did not fit in this run
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
