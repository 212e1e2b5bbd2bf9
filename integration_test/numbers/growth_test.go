package numbers

import (
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"keymill/integration_test/counts"
	"keymill/issuer/refusal"
)

// maxGrowth is what nine hundred thousand rotations may add to the store after the
// hundred thousand before them. A quick run of fewer rotations is allowed as much less.
const (
	maxGrowth = 32 << 20
	million   = 1_000_000
)

// TestAMillionRotationsHardlyGrowTheStore: a rotation rewrites one record in place and
// leaves nothing else behind.
func TestAMillionRotationsHardlyGrowTheStore(t *testing.T) {
	rotations, families := counts.Of("rotations"), counts.Of("rotating-families")
	p := newPlace(t)
	r := openRooms(t, p, nil)
	r.enrol(t)
	tokens := r.begin(t, families/10, families)
	before := rotateAndMeasure(t, r, tokens, p.path, rotations/10)

	again := openRooms(t, p, nil)
	again.client = r.client
	begun := time.Now()
	after := rotateAndMeasure(t, again, tokens, p.path, rotations-rotations/10)
	rate := float64(rotations-rotations/10) / time.Since(begun).Seconds()

	t.Logf("counted: %d rotations over %d families, %.0f/s; the store takes %.1f MB, %.1f MB more than after the first tenth",
		rotations, families, rate, mega(after), mega(after-before))
	if allowed := int64(maxGrowth) * int64(rotations) / million; after-before > allowed {
		t.Errorf("the store grew by %d bytes, allowed are %d", after-before, allowed)
	}
}

// rotateAndMeasure closes r afterwards and returns how many bytes of the file have been
// used so far. Its size would tell less, as it grows by 16 MB at a time.
func rotateAndMeasure(t *testing.T, r *rooms, tokens []refusal.Secret, path string, n int) int64 {
	t.Helper()
	r.rotate(t, tokens, n)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	return tx.Size()
}

func mega(bytes int64) float64 { return float64(bytes) / 1e6 }
