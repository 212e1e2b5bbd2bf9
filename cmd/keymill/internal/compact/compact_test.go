package compact

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressIsALineNowAndThen where it is no terminal, and a short run has none.
func TestProgressIsALineNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out)
		for percent := range 100 {
			p.report("compacting")(percent)
			time.Sleep(300 * time.Millisecond)
		}
		p.end()
		if got := strings.Count(out.String(), "\n"); got != 3 || !strings.HasPrefix(out.String(), "compacting: 4 %\n") {
			t.Errorf("30 seconds: %q", out.String())
		}
		out.Reset()
		p = newProgress(&out)
		p.report("checking")(100)
		p.end()
		if out.Len() > 0 {
			t.Errorf("a short run: %q", out.String())
		}
		p.terminal = true
		time.Sleep(time.Minute)
		p.report("checking")(50)
		p.end()
		if want := "\rchecking   [" + strings.Repeat("#", 15) + strings.Repeat(" ", 15) + "]  50 %\r" + strings.Repeat(" ", 60) + "\r"; out.String() != want {
			t.Errorf("on a terminal: %q, want %q", out.String(), want)
		}
	})
}

// TestAResultIsOneSentence.
func TestAResultIsOneSentence(t *testing.T) {
	for want, r := range map[string]Result{
		"/d/keymill.db: 1.5 GiB before, 12.0 MiB now, 7 records\n":                      {"/d/keymill.db", 7, 3 << 29, 12 << 20},
		"nothing to gain: /d/keymill.db has 24.0 KiB, and its 7 records need as much\n": {"/d/keymill.db", 7, 24 << 10, 24 << 10},
	} {
		var out bytes.Buffer
		if err := r.Print(&out); err != nil || out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}
