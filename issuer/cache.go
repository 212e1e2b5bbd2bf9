package issuer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

const maxCachedRecords = 4096 // records; the record of a typical client is about 1 KiB

// A recordCache keeps decoded records, because decoding JSON costs more than everything else that a
// token needs before its signature. It is never stale: each read gets the bytes from the store, and
// an entry is used only if its bytes are equal.
type recordCache[T any] struct {
	mu      sync.RWMutex
	records map[string]cachedRecord[T] // storage key → record; owned by mu
}

type cachedRecord[T any] struct {
	raw   []byte
	value *T // shared: it must not be changed
}

// read returns the record that raw encodes. The caller must not change it.
func (d *recordCache[T]) read(key string, raw []byte) (*T, error) {
	d.mu.RLock()
	known, ok := d.records[key]
	d.mu.RUnlock()
	if ok && bytes.Equal(known.raw, raw) {
		return known.value, nil
	}
	value, err := decode[T](key, raw)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records == nil {
		d.records = make(map[string]cachedRecord[T])
	}
	if len(d.records) >= maxCachedRecords {
		for some := range d.records { // any one; at this size it hardly matters which
			delete(d.records, some)
			break
		}
	}
	d.records[key] = cachedRecord[T]{raw, value}
	return value, nil
}

// errDamaged is for a record that this program cannot have written.
var errDamaged = errors.New("the record is damaged")

func decode[T any](key string, raw []byte) (*T, error) {
	value := new(T)
	if err := json.Unmarshal(raw, value); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", key, errDamaged, err)
	}
	return value, nil
}
