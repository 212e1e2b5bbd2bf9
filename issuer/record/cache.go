package record

import (
	"bytes"
	"sync"
)

const maxCached = 4096 // records; the record of a typical client is about 1 KiB

// A Cache keeps decoded records, because decoding JSON costs more than everything else that a
// token needs before its signature. It is never stale: each read gets the bytes from the store, and
// an entry is used only if its bytes are equal.
type Cache[T any] struct {
	mu      sync.RWMutex
	records map[string]cached[T] // storage key → record; owned by mu
}

type cached[T any] struct {
	raw   []byte
	value *T // shared: it must not be changed
}

// Read returns the record that raw encodes, if possible accepts it. The caller must not change it.
func (d *Cache[T]) Read(key string, raw []byte, possible func(*T) bool) (*T, error) {
	d.mu.RLock()
	known, ok := d.records[key]
	d.mu.RUnlock()
	if ok && bytes.Equal(known.raw, raw) {
		return known.value, nil
	}
	value, err := Decode(key, raw, possible)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records == nil {
		d.records = make(map[string]cached[T])
	}
	if len(d.records) >= maxCached {
		for some := range d.records { // any one; at this size it hardly matters which
			delete(d.records, some)
			break
		}
	}
	d.records[key] = cached[T]{raw, value}
	return value, nil
}
