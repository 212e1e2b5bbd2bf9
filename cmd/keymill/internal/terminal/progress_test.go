package terminal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressIsALineNowAndThen where it is no terminal, and a bar on one. A short run has neither.
func TestProgressIsALineNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		run := func(p *Progress) {
			out.Reset()
			for percent := range int64(100) {
				p.Show(percent, 100, fmt.Sprintf("compacting: %d %%", percent))
				time.Sleep(350 * time.Millisecond)
			}
			p.End()
		}
		p := NewProgress(&out)
		if run(p); p.Bar() || out.String() != "compacting: 29 %\ncompacting: 58 %\ncompacting: 87 %\n" {
			t.Errorf("35 seconds: %q", out.String())
		}
		p = NewProgress(&out)
		p.bar, p.next = true, time.Now().Add(time.Second)
		run(p)
		lines := strings.Split(out.String(), "\r")
		if len(lines) != 100 || !strings.HasPrefix(lines[1], "[                              ] compacting: 3 %") ||
			!strings.HasPrefix(lines[97], "[#############################] compacting: 99 %") && !strings.HasPrefix(lines[97], "[############################# ] compacting: 99 %") ||
			strings.TrimSpace(lines[98]) != "" || len(lines[98]) != len(lines[97]) {
			t.Errorf("on a terminal %d lines: %q", len(lines), lines)
		}
		for _, bar := range []bool{false, true} {
			p := NewProgress(&out)
			out.Reset()
			p.bar = bar
			p.Show(1, 0, "checking")
			p.End()
			if out.Len() > 0 {
				t.Errorf("a short run: %q", out.String())
			}
		}
	})
}

// TestNumbersHaveTheirNouns.
func TestNumbersHaveTheirNouns(t *testing.T) {
	for want, got := range map[string]string{
		"0 records": Count(0, "record"), "1 record": Count(1, "record"), "2 records": Count(2, "record"),
		"1 byte": Size(1), "1023 bytes": Size(1023), "1.0 KiB": Size(1024), "12.0 MiB": Size(12 << 20), "1.5 GiB": Size(3 << 29),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
