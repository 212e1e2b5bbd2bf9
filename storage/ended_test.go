package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"keymill/storage"
)

// TestJoinSaysEachCauseOnce, in the order of the calls, and keeps what errors.Is finds.
func TestJoinSaysEachCauseOnce(t *testing.T) {
	full := errors.New("full")
	if err := storage.Join(nil, nil); err != nil {
		t.Error(err)
	}
	err := storage.Join(nil, storage.ErrClosed, fmt.Errorf("%w", storage.ErrClosed), full, storage.ErrClosed)
	if err == nil || err.Error() != "store is closed\nfull" || !errors.Is(err, storage.ErrClosed) || !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}
