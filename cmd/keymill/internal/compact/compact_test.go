package compact

import (
	"bytes"
	"fmt"
	"testing"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/bolt"
)

// TestAResultIsOneSentence.
func TestAResultIsOneSentence(t *testing.T) {
	for want, r := range map[string]Result{
		"/d/keymill.db: 1.5 GiB before, 12.0 MiB now, 7 records\n":                                {"/d/keymill.db", 7, 3 << 29, 12 << 20},
		"nothing to gain: /d/keymill.db has 24.0 KiB, no more than its records need (1 record)\n": {"/d/keymill.db", 1, 24 << 10, 24 << 10},
	} {
		var out bytes.Buffer
		if err := r.Print(&out); err != nil || out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}

// TestAFullDiskSaysWhatIsMissing in units that a person reads, and what to do.
func TestAFullDiskSaysWhatIsMissing(t *testing.T) {
	var out bytes.Buffer
	err := fault(t.Context(), fmt.Errorf("compact store: %w", &bolt.SpaceError{Dir: "/d", Need: 3 << 20, Free: 512 << 10}))
	terminal.Report(&out, err)
	want := "keymill: the new file needs 3.0 MiB in /d, and 512.0 KiB are free\n  hint: the store is as it was; free space on its disk, and run it again\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
