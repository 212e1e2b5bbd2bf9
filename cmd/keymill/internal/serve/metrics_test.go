package serve

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/storage"
)

// TestSizesAreReadEveryFewSeconds, and not by a scrape.
func TestSizesAreReadEveryFewSeconds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		file, err := openstore.Open(t.Context(), &config.Config{Data: dir}, openstore.Options{Committed: func(time.Duration, int) {}})
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s := &server{config: &config.Config{Data: dir}, file: file}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.watchDisk(ctx) }()
		synctest.Wait()
		if s.disk.file.Load() == 0 || s.disk.left.Load() == 0 || s.disk.free.Load() != 0 {
			t.Errorf("at first: %d, %d, %d", s.disk.file.Load(), s.disk.left.Load(), s.disk.free.Load())
		}
		if err := file.Update(ctx, func(tx storage.Tx) error { return tx.Put("key", nil) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(diskEvery + time.Second)
		if free := s.disk.free.Load(); free == 0 || free >= s.disk.file.Load() {
			t.Errorf("%d bytes are free of %d", free, s.disk.file.Load())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestADiskThatCannotBeAskedLooksFull: an alarm without a reason is better than none.
func TestADiskThatCannotBeAskedLooksFull(t *testing.T) {
	s := &server{config: &config.Config{Data: filepath.Join(t.TempDir(), "missing")}}
	s.disk.left.Store(1)
	s.readDiskLeft()
	if n := s.disk.left.Load(); n != 0 {
		t.Errorf("%d bytes are free", n)
	}
}
