package keystore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage/storagetest"
)

// TestACheckOfTheCallerOnlyAddsToTheSchedule: it is asked about the spare that would sign, after the schedule has allowed
// the rotation, and its refusal changes nothing. Force asks neither.
func TestACheckOfTheCallerOnlyAddsToTheSchedule(t *testing.T) {
	storagetest.SkipIfRerunning(t, "Check is counted")
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRings(t)
		run(t, r)
		until(t, "a reserve", func() bool { return stage(t, r, Reserve) != "" })
		first, spare := stage(t, r, Active), stage(t, r, Spare)
		errBehind := errors.New("orders-api is behind")
		var asked []string
		refuse := func(kid string) error {
			asked = append(asked, kid)
			r.Now() // as a check may
			return errBehind
		}
		_, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Check: refuse}, "test")
		var notReady *NotReadyError
		if !errors.As(err, &notReady) || asked != nil {
			t.Errorf("before its time: %v, asked about %q", err, asked)
		}
		time.Sleep(notReady.At.Sub(r.Now()))
		for range 2 {
			asked = nil
			if _, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Check: refuse}, "test"); !errors.Is(err, errBehind) || len(asked) != 1 || asked[0] != spare {
				t.Errorf("refused: %v, asked about %q, want %s", err, asked, spare)
			}
			if stage(t, r, Active) != first || stage(t, r, Spare) != spare {
				t.Fatal("a refused rotation changed the ring")
			}
		}
		asked = nil
		got, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true, Check: refuse}, "test")
		if err != nil || got.KID != spare || asked != nil {
			t.Errorf("by force: %v, %v, asked about %q", got, err, asked)
		}
		time.Sleep(5 * time.Second)
		allow := func(string) error { return nil }
		if got, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Check: allow}, "test"); err != nil || got.Previous != spare {
			t.Errorf("allowed: %v, %v", got, err)
		}
	})
}
