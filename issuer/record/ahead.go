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
	known []found        // a linear search of so few beats a map
	room  [usually]found // of known, until it is full
}

// usually is how many records most decisions read at most.
const usually = 8

// A found record has a value of nil if it does not exist.
type found struct {
	key   string
	value []byte
}

// NewAhead returns an Ahead over r that has read nothing.
func NewAhead(r storage.Reader) *Ahead {
	a := &Ahead{Reader: r}
	a.known = a.room[:0]
	return a
}

// find returns what is known of a record, nil if it was not read.
func (a *Ahead) find(key string) *found {
	for n := range a.known {
		if a.known[n].key == key {
			return &a.known[n]
		}
	}
	return nil
}

// Fetch reads those of the records that were not read yet, in one round trip. If one of them cannot be read, none
// is kept: Get reads each of them and tells which.
func (a *Ahead) Fetch(keys ...string) error {
	before := len(a.known)
	missing := make([]string, 0, len(keys))
	for _, key := range keys {
		if a.find(key) == nil {
			missing, a.known = append(missing, key), append(a.known, found{key: key})
		}
	}
	if len(missing) == 0 {
		return nil
	}
	values, err := a.Reader.GetAll(missing...)
	if err != nil {
		a.known = a.known[:before]
	}
	for n := range a.known[before:] {
		a.known[before+n].value = values[n]
	}
	if Unreadable(err) {
		return nil
	}
	return err
}

// Has reports whether the record was read, or is known to be absent.
func (a *Ahead) Has(key string) bool { return a.find(key) != nil }

// Get implements storage.Reader.
func (a *Ahead) Get(key string) ([]byte, error) {
	f := a.find(key)
	switch {
	case f == nil:
		return a.Reader.Get(key)
	case f.value == nil:
		return nil, storage.ErrNotFound
	}
	return f.value, nil
}

// A Writer is an Ahead that sees its own writes. If a write fails, so does its transaction.
type Writer struct {
	Ahead
	tx storage.Tx
}

// NewWriter returns a Writer over tx that has read nothing.
func NewWriter(tx storage.Tx) *Writer {
	w := &Writer{Ahead{Reader: tx}, tx}
	w.known = w.room[:0]
	return w
}

// Below returns the Tx that w writes to.
func (w *Writer) Below() storage.Tx { return w.tx }

// Put implements storage.Tx.
func (w *Writer) Put(key string, value []byte) error {
	w.note(key, bytes.Clone(value))
	return w.tx.Put(key, value)
}

// Delete implements storage.Tx.
func (w *Writer) Delete(key string) error {
	w.note(key, nil)
	return w.tx.Delete(key)
}

func (w *Writer) note(key string, value []byte) {
	if f := w.find(key); f != nil {
		f.value = value
		return
	}
	w.known = append(w.known, found{key, value})
}
