package outage

import (
	"fmt"
	"strings"
	"testing"

	"keymill/storage"
)

// TestAnUnknownOutcomeIsNotCalledUnwritten, also if the error says as well that a database is away or full.
func TestAnUnknownOutcomeIsNotCalledUnwritten(t *testing.T) {
	away := fmt.Errorf("%w: the server does not answer in time", storage.ErrUnavailable)
	for err, written := range map[error]string{
		away: "nothing was written",
		fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, away):               "may have been made or not",
		fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, storage.ErrNoSpace): "may have been made or not",
	} {
		if reason, wait, ok := Of(err); !ok || wait == 0 || !strings.Contains(reason, written) {
			t.Errorf("%v: %q, %v", err, reason, wait)
		}
	}
}

// TestAMovedStoreCanBeAsked: only what writes is refused there, so a log line can name the client.
func TestAMovedStoreCanBeAsked(t *testing.T) {
	moved := fmt.Errorf("%w: %w", storage.ErrUnavailable, storage.ErrMoved)
	if OfStore(moved) || !OfStore(storage.ErrUnavailable) {
		t.Errorf("moved %v, away %v", OfStore(moved), OfStore(storage.ErrUnavailable))
	}
}
