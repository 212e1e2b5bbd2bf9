package sealed

import (
	"errors"
	"fmt"

	"keymill/storage"
)

// A transaction adds tags, and keeps the manifest in step with the records that it covers.
type transaction struct {
	reader
	tx      storage.Tx
	root    *root            // nil until the manifest is needed
	pages   map[string]*page // name of a page → the page as this transaction changes it
	known   map[string]bool  // covered keys whose stored record is what the manifest says, or was written here
	err     error            // the first limit that was exceeded; it fails the Update
	written bool             // the manifest must be written
}

// errOwnRecord means that a caller wrote a record of this package or of keystore's.
var errOwnRecord = errors.New("the record is written in another way")

// run runs fn and writes the manifest.
func (t *transaction) run(fn func(storage.Tx) error) error {
	if err := fn(t); err != nil {
		return err
	}
	if t.err != nil {
		return t.err
	}
	if t.written {
		return t.putManifest()
	}
	return nil
}

func (t *transaction) Put(key string, value []byte) error {
	if len(value) > storage.MaxValueBytes {
		return t.fail(fmt.Errorf("%w: the value has %d bytes, at most %d are allowed", storage.ErrLimit, len(value), storage.MaxValueBytes))
	}
	if untagged(key) || storage.InManifest(key) {
		return t.fail(fmt.Errorf("put %s: %w", key, errOwnRecord))
	}
	if !covered(key) {
		_, err := t.put(key, value)
		return err
	}
	if err := t.checkEntry(key); err != nil {
		return t.fail(err)
	}
	sum, err := t.put(key, value)
	if err == nil {
		t.note(key, sum[:])
	}
	return err
}

// put writes a record of any kind.
func (t *transaction) put(key string, value []byte) (tag, error) {
	return t.state.current.seal(key, value, func(stored []byte) error { return t.tx.Put(key, stored) })
}

func (t *transaction) Delete(key string) error {
	if untagged(key) || storage.InManifest(key) {
		return t.fail(fmt.Errorf("delete %s: %w", key, errOwnRecord))
	}
	if !covered(key) {
		return t.tx.Delete(key)
	}
	if err := t.checkEntry(key); err != nil {
		return t.fail(err)
	}
	err := t.tx.Delete(key)
	if err == nil {
		t.note(key, nil)
	}
	return err
}

// Get does not take a record for absent that the manifest lists: a decision that finds nothing may
// write something new in its place.
func (t *transaction) Get(key string) ([]byte, error) {
	v, err := t.reader.Get(key)
	if errors.Is(err, storage.ErrNotFound) && covered(key) {
		if err := t.checkEntry(key); err != nil {
			return nil, err
		}
	}
	return v, err
}

func (t *transaction) GetAll(keys ...string) ([][]byte, error) {
	values, err := t.reader.GetAll(keys...)
	for n, v := range values {
		if v == nil && covered(keys[n]) && err == nil {
			err = t.checkEntry(keys[n])
		}
	}
	if err != nil {
		return nil, err
	}
	return values, nil
}

func (t *transaction) fail(err error) error {
	if t.err == nil {
		t.err = err
	}
	return err
}
