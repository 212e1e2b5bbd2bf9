package storage_test

import (
	"path/filepath"
	"testing"

	"keymill/storage"
	"keymill/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T, dir string) storage.Store {
		b, err := storage.OpenBolt(filepath.Join(dir, "keymill.db"), storage.BoltOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}
