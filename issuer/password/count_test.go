package password

import (
	"context"
	"errors"
	"iter"
	"testing"

	"keymill/storage"
)

// An awayStore cannot be reached. It says so in the Scan, as a store on the network does.
type awayStore struct{ storage.Store }

func (awayStore) View(_ context.Context, fn func(storage.Reader) error) error {
	return fn(awayReader{})
}

type awayReader struct{ storage.Reader }

func (awayReader) Scan(_, _ string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, storage.ErrUnavailable) }
}

// TestAStoreThatIsAwayEndsNoServer: the error of a Scan that could not read comes without a key.
func TestAStoreThatIsAwayEndsNoServer(t *testing.T) {
	if err := NewHasher().SyncClasses(t.Context(), awayStore{}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
