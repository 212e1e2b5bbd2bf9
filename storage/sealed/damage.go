package sealed

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// maxDamagedKeys bounds the memory that a store with damage everywhere takes.
const maxDamagedKeys = 1000

// A damage remembers which records are damaged. Its zero value knows of none.
type damage struct {
	found atomic.Uint64 // how often a damaged record was read
	some  atomic.Bool   // keys is not empty; a whole record is the usual case and takes no lock
	mu    sync.Mutex
	keys  map[string]bool // owned by mu
}

func (d *damage) add(key string) {
	d.found.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys == nil {
		d.keys = map[string]bool{}
	}
	if len(d.keys) < maxDamagedKeys {
		d.keys[key] = true
		d.some.Store(true)
	}
}

func (d *damage) remove(key string) {
	if !d.some.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, key)
	d.some.Store(len(d.keys) > 0)
}

func (d *damage) list() ([]string, uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.keys)), d.found.Load()
}
