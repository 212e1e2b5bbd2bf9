package optimistic_test

import (
	"sync"
	"testing"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
	"keymill/storage/storagetest"
)

// databases finds the database of a directory, so that a test can open its store again.
type databases struct {
	mu sync.Mutex
	of map[string]*enginetest.Database // guarded by mu
}

func (d *databases) in(dir string) *enginetest.Database {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[string]*enginetest.Database{}
	}
	if d.of[dir] == nil {
		d.of[dir] = enginetest.NewDatabase()
	}
	return d.of[dir]
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]optimistic.Options{
		"Default":   {},
		"NoCache":   {CacheBytes: -1},
		"OneOfEach": {Committers: 1, Fetchers: 1},
		"Many":      {Committers: 4, Fetchers: 4, CacheBytes: 16 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			var all databases
			open := func(t *testing.T, dir string) storage.Store {
				return optimistic.New(all.in(dir).Open(enginetest.Faults{}), o)
			}
			storagetest.Run(t, storagetest.Suite{Open: open, OpenSecond: open})
		})
	}
}
