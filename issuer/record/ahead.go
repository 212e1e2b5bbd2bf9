package record

import (
	"bytes"

	"keymill/storage"
)

// An Ahead is the Reader of one run of a transaction that has read some records already. So a decision reads
// what it needs where it needs it, and a store on the network is asked once for many records. What is written
// after Fetch is not seen, see Writer. The values that Get returns must not be changed.
type Ahead struct {
	storage.Reader
	known map[string][]byte // key → value, nil if there is no record
}

// NewAhead returns an Ahead over r that has read nothing.
func NewAhead(r storage.Reader) *Ahead { return &Ahead{r, map[string][]byte{}} }

// Fetch reads those of the records that were not read yet, in one round trip. If one of them cannot be read, none
// is kept: Get reads each of them and tells which.
func (a *Ahead) Fetch(keys ...string) error {
	missing := make([]string, 0, len(keys))
	for _, key := range keys {
		if _, ok := a.known[key]; !ok {
			missing, a.known[key] = append(missing, key), nil
		}
	}
	if len(missing) == 0 {
		return nil
	}
	values, err := a.Reader.GetAll(missing...)
	for n, key := range missing {
		if err != nil {
			delete(a.known, key)
		} else {
			a.known[key] = values[n]
		}
	}
	if Unreadable(err) {
		return nil
	}
	return err
}

// Has reports whether the record was read, or is known to be absent.
func (a *Ahead) Has(key string) bool { _, ok := a.known[key]; return ok }

// Get implements storage.Reader.
func (a *Ahead) Get(key string) ([]byte, error) {
	value, ok := a.known[key]
	switch {
	case !ok:
		return a.Reader.Get(key)
	case value == nil:
		return nil, storage.ErrNotFound
	}
	return value, nil
}

// A Writer is an Ahead that sees its own writes. If a write fails, so does its transaction.
type Writer struct {
	Ahead
	tx storage.Tx
}

// NewWriter returns a Writer over tx that has read nothing.
func NewWriter(tx storage.Tx) *Writer { return &Writer{*NewAhead(tx), tx} }

// Below returns the Tx that w writes to.
func (w *Writer) Below() storage.Tx { return w.tx }

// Put implements storage.Tx.
func (w *Writer) Put(key string, value []byte) error {
	w.known[key] = bytes.Clone(value)
	return w.tx.Put(key, value)
}

// Delete implements storage.Tx.
func (w *Writer) Delete(key string) error {
	w.known[key] = nil
	return w.tx.Delete(key)
}
