package bolt_test

import (
	"path/filepath"
	"testing"

	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

func openAt(t *testing.T, dir string) storage.Store {
	b, err := bolt.Open(filepath.Join(dir, "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestConformanceWithMemory keeps every record in memory.
func TestConformanceWithMemory(t *testing.T) {
	storagetest.Run(t, storagetest.Suite{Open: func(t *testing.T, dir string) storage.Store {
		b, err := bolt.Open(filepath.Join(dir, "keymill.db"), bolt.Options{Hot: func(string) bool { return true }})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}})
}

func TestConformance(t *testing.T) { storagetest.Run(t, storagetest.Suite{Open: openAt}) }

// TestConformanceWithReruns shows that the suite does not rely on what only bbolt promises.
func TestConformanceWithReruns(t *testing.T) {
	storagetest.Run(t, storagetest.Suite{Open: func(t *testing.T, dir string) storage.Store {
		return storagetest.Rerunning(openAt(t, dir))
	}})
}
