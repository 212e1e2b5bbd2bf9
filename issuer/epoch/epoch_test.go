package epoch

import (
	"path/filepath"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
)

// TestAnEpochIsLaterThanEveryToken so far, also after the wall clock was set back a little, and is not
// hours ahead because the wall clock once was.
func TestAnEpochIsLaterThanEveryToken(t *testing.T) {
	wall := time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC)
	for name, tt := range map[string]struct {
		epoch    uint64
		decision time.Time
		want     time.Time
	}{
		"both clocks agree":              {0, wall, wall.Add(time.Second)},
		"the wall clock was set back":    {0, wall.Add(90 * time.Second), wall.Add(91 * time.Second)},
		"by just less than two minutes":  {0, wall.Add(2*time.Minute - 1), wall.Add(2*time.Minute - 1 + time.Second)},
		"the wall clock was hours ahead": {0, wall.Add(5 * time.Hour), wall.Add(2*time.Minute + time.Second)},
		"the epoch is later":             {Of(wall.Add(time.Hour)), wall, wall.Add(time.Hour + 1)},
	} {
		if got := After(tt.epoch, tt.decision, wall); got != Of(tt.want) {
			t.Errorf("%s: got %s, want %s", name, time.Unix(0, int64(got)).UTC(), tt.want)
		}
	}
}

// TestTheEndOfAllSessionsIsLaterThanWhatIsKnown: than the epoch of the store, and than one that a copy of it
// does not have.
func TestTheEndOfAllSessionsIsLaterThanWhatIsKnown(t *testing.T) {
	store, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Update(t.Context(), Make); err != nil {
		t.Fatal(err)
	}
	far := Of(time.Now().Add(24 * time.Hour))
	for _, known := range []uint64{0, far} {
		var before, after uint64
		err := store.Update(t.Context(), func(tx storage.Tx) (err error) {
			if before, err = Find(tx); err != nil {
				return err
			}
			if err := EndAllSessions(tx, time.Now(), time.Now(), known, false); err != nil {
				return err
			}
			after, err = Find(tx)
			return err
		})
		if err != nil || after <= before || after <= known {
			t.Errorf("known %d: from %d to %d, %v", known, before, after, err)
		}
	}
}
