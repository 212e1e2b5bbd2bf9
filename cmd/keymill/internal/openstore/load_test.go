package openstore

import (
	"errors"
	"io"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/storage"
	"keymill/storage/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// TestNothingIsLoadedOverAStore: a restore takes minutes, and another program can make a store in that time.
func TestNothingIsLoadedOverAStore(t *testing.T) {
	c := &config.Config{Store: postgrestest.Shared(t).Database(t)}
	s, err := Open(t.Context(), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	load := func(key string) error {
		left := true
		return s.Load(t.Context(), func(storage.Reader) error { return nil }, func() (storage.Write, error) {
			if left {
				left = false
				return storage.Write{Key: key}, nil
			}
			return storage.Write{}, io.EOF
		})
	}
	if err := load("first"); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return storage.PutMeta(tx, storage.NewMeta(time.Now(), false)) }); err != nil {
		t.Fatal(err)
	}
	if err := load("second"); !errors.Is(err, ErrIdentified) {
		t.Errorf("%v, want ErrIdentified", err)
	}
	if err := s.View(t.Context(), func(r storage.Reader) error { _, err := r.Get("second"); return err }); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the record was written: %v", err)
	}
}
