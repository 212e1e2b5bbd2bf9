package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"keymill/storage"
)

const keyringKey = "keyring"

// A Shared tells a Store how to follow the keys while other servers change them.
type Shared struct {
	Record []byte // the record keyring from which the Keys of the Store were read
	// Read returns the keys in a record keyring. It only reads, and may run more than once.
	Read func(r storage.Reader, record []byte) (Keys, error)
	// Changed is called before the Store uses other keys, one call at a time. It may be nil.
	Changed func(Keys)
}

// A sharing is what a Store of several servers has. Its state has the record keyring.
type sharing struct {
	Shared
	mu sync.Mutex // held while the keys are read again
}

// Share tells the Store that other servers use the store below at the same time. It comes before the first
// use of the Store. From then on each Update compares the record keyring in its transaction, and is
// refused or runs again with the new keys if the record has changed.
func (s *Store) Share(shared Shared) {
	next := *s.state.Load()
	next.record = shared.Record
	s.state.Store(&next)
	s.shared = &sharing{Shared: shared}
}

// A LifeError means that the store was replaced by a copy while this server used it. Nothing can be read or
// written after it; only another process can use the store. It matches storage.ErrClosed.
type LifeError struct{ Own, Store uint64 }

// Error says what happened, and that the server stops.
func (e *LifeError) Error() string {
	if e.Store > e.Own {
		return "the store was restored from a backup while this server used it, so the server stops; start it again to use the restored store"
	}
	return "an older copy of the store was put in its place while this server used it, so the server stops; put the newest store back before it is started again"
}

// Is matches storage.ErrClosed.
func (e *LifeError) Is(target error) bool { return target == storage.ErrClosed }

// Generation returns the number of the data key with which the Store writes.
func (s *Store) Generation() uint32 { return s.state.Load().current.generation }

// Restored tells the Store that its own program has raised the life of the store.
func (s *Store) Restored(life uint64) {
	s.changing.Lock()
	defer s.changing.Unlock()
	next := *s.state.Load()
	next.life = life
	s.state.Store(&next)
}

// failure returns why the Store refuses all work, or nil.
func (s *Store) failure() error {
	if e := s.ended.Load(); e != nil {
		return e
	}
	return nil
}

// Refresh reads the keys again if the record keyring has changed. A server of a shared store calls it every few
// seconds. The error is a *LifeError if the store was replaced; then the server has to stop. After any other error
// the Store goes on with the keys that it has, and its Updates are refused until the record can be read. Without Share
// it does nothing.
func (s *Store) Refresh(ctx context.Context) error {
	if s.shared == nil {
		return nil
	}
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if err := s.failure(); err != nil {
		return err
	}
	now := s.state.Load()
	var keys *Keys
	var record []byte
	var cursor string
	err := s.base.View(ctx, func(r storage.Reader) (err error) {
		keys, cursor = nil, ""
		if record, err = readKeyring(r); err != nil {
			return err
		}
		if !bytes.Equal(record, now.record) {
			read, err := s.shared.Read(r, record)
			if err != nil {
				return err
			}
			keys = &read
		}
		cursor, err = s.readCursor(r, now, keys)
		return err
	})
	switch {
	case err != nil:
		return explainRefresh(err)
	case keys == nil:
		s.advance(now.current, cursor)
		return nil
	}
	return s.use(*keys, record, cursor)
}

func readKeyring(r storage.Reader) ([]byte, error) {
	record, err := r.Get(keyringKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, storage.Damaged(keyringKey, "it is missing")
	}
	return record, err
}

// readCursor returns how far Retag of keys came, which are nil if they are those of now. It returns "" if there is
// nothing to tag again.
func (s *Store) readCursor(r storage.Reader, now *state, keys *Keys) (string, error) {
	if keys != nil {
		if keys.Life != now.life {
			return "", nil
		}
		next, err := newStore(nil, *keys)
		if err != nil {
			return "", err
		}
		now = next.state.Load()
	}
	if now.previous == nil {
		return "", nil
	}
	// The damage that it finds is noted by the readers of records.
	m, err := (&reader{base: r, state: now, damage: &s.damage}).readRoot()
	if err != nil {
		return "", err
	}
	return m.Retagged, nil
}

// explainRefresh makes an error that is neither of the store nor of a record one for the callers of Update: nothing was
// written, and the same call can succeed later.
func explainRefresh(err error) error {
	if errors.Is(err, storage.ErrDamaged) || errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrClosed) ||
		errors.Is(err, storage.ErrBroken) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &keysError{err}
}

// A keysError means that the keys of the store have changed and cannot be read. It matches storage.ErrUnavailable.
type keysError struct{ err error }

func (e *keysError) Error() string {
	return fmt.Sprintf("the keys of the store were changed, and this server cannot read them: %v", e.err)
}
func (e *keysError) Unwrap() error        { return e.err }
func (e *keysError) Is(target error) bool { return target == storage.ErrUnavailable }

// use makes keys those of the Store, which record holds. s.shared.mu is held.
func (s *Store) use(keys Keys, record []byte, cursor string) error {
	now := s.state.Load()
	if keys.Life != now.life {
		ended := &LifeError{now.life, keys.Life}
		s.ended.Store(ended)
		return ended
	}
	older := keys.Current.Number < now.current.generation ||
		keys.Current.Number == now.current.generation && keys.Previous != nil && now.previous == nil
	if older {
		return storage.Damaged(keyringKey, "it is an older one that was put back")
	}
	next, err := newStore(nil, keys)
	if err != nil {
		return err
	}
	st := next.state.Load()
	st.record, st.cursor = record, cursor
	if s.shared.Changed != nil {
		s.shared.Changed(keys) // before any value that is written under the new keys can be read
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	s.state.Store(st)
	return nil
}

// advance moves the cursor of Retag forward, unless the data key current was replaced in between.
func (s *Store) advance(current *tagger, cursor string) {
	s.changing.Lock()
	defer s.changing.Unlock()
	next := *s.state.Load()
	if next.current != current || next.previous == nil || cursor <= next.cursor {
		return
	}
	next.cursor = cursor
	s.state.Store(&next)
}

// errKeysChanged ends a run that found another record keyring than that of its keys.
var errKeysChanged = errors.New("the record keyring has changed")

// compareKeyring is the first step of an Update of a shared store. A node can be paused for hours at any
// moment, and wake up with keys that were replaced. Nothing that it then does is written.
func (t *transaction) compareKeyring() error {
	record, err := readKeyring(t.base)
	if err == nil && !bytes.Equal(record, t.state.record) {
		err = errKeysChanged
	}
	return err
}
