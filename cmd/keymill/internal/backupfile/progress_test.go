package backupfile

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/terminal"
)

// TestReadingABackupShowsHowMuchWasRead, of about how much if that is known.
func TestReadingABackupShowsHowMuchWasRead(t *testing.T) {
	for total, want := range map[int64]string{
		0:        "12 MiB\n24 MiB\n",
		40 << 20: "12 MiB of about 40 MiB\n24 MiB of about 40 MiB\n",
		20 << 20: "12 MiB of about 20 MiB\n24 MiB of about 24 MiB\n", // the store has grown
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			p := terminal.NewProgress(&out)
			c := &counter{in: strings.NewReader(strings.Repeat("x", 30<<20)), shown: p, total: total}
			for range 30 {
				time.Sleep(900 * time.Millisecond)
				if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
			}
			p.End()
			if out.String() != want {
				t.Errorf("of %d: %q, want %q", total, out.String(), want)
			}
		})
	}
}
