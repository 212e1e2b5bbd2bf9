package bolt_test

import (
	"path/filepath"
	"testing"

	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T, dir string) storage.Store {
		b, err := bolt.Open(filepath.Join(dir, "keymill.db"), bolt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}
