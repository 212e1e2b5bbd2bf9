package numbers

import (
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"keymill/integration_test/counts"
	"keymill/issuer/refusal"
)

// maxGrowth bounds the bytes that 900,000 rotations add to the store after the first 100,000. For
// fewer rotations the bound is smaller in proportion.
const (
	maxGrowth = 32 << 20
	million   = 1_000_000
)

// TestAMillionRotationsHardlyGrowTheStore: a rotation replaces one record and adds none.
func TestAMillionRotationsHardlyGrowTheStore(t *testing.T) {
	rotations, families := counts.Of("rotations"), counts.Of("rotating-families")
	p := newPlace(t)
	r := openIssuer(t, p, nil)
	r.register(t)
	tokens := r.begin(t, families/10, families)
	before := rotateAndMeasure(t, r, tokens, p.path, rotations/10)

	again := openIssuer(t, p, nil)
	again.client = r.client
	begun := time.Now()
	after := rotateAndMeasure(t, again, tokens, p.path, rotations-rotations/10)
	rate := float64(rotations-rotations/10) / time.Since(begun).Seconds()

	t.Logf("counted: %d rotations over %d families, %.0f/s; the store takes %.1f MB, %.1f MB more than after the first tenth",
		rotations, families, rate, mega(after), mega(after-before))
	if allowed := int64(maxGrowth) * int64(rotations) / million; after-before > allowed {
		t.Errorf("the store grew by %d bytes, at most %d are allowed", after-before, allowed)
	}
}

// rotateAndMeasure rotates, closes r, and returns the number of bytes of the file that are in use. The
// size of the file is less exact, because it grows by 16 MB at a time.
func rotateAndMeasure(t *testing.T, r *openedIssuer, tokens []refusal.Secret, path string, n int) int64 {
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
