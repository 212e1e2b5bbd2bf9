package keychange

import (
	"context"
	"fmt"
	"io"
	"time"

	"keymill/cmd/keymill/internal/terminal"
)

// pollEvery is how often a command that waits asks the server.
const pollEvery = time.Second

// A line says on standard error what a command waits for: in place on a terminal, and elsewhere one line
// for each change.
type line struct {
	out   io.Writer
	shown *terminal.Progress
	last  string
}

func newLine(errs io.Writer) *line { return &line{out: errs, shown: terminal.NewProgress(errs)} }

// A share says how much of something is done.
type share struct{ done, total int64 }

// show shows short, which a terminal has room for, or long.
func (l *line) show(s share, short, long string) {
	if l.shown.Bar() {
		l.shown.Show(s.done, s.total, cut(terminal.OneLine(short)))
		return
	}
	if long != l.last {
		fmt.Fprintln(l.out, terminal.OneLine(long))
		l.last = long
	}
}

// end removes the line from a terminal.
func (l *line) end() { l.shown.End() }

// cut returns what fits beside the bar.
func cut(text string) string {
	const room = 45
	if r := []rune(text); len(r) > room {
		return string(r[:room-1]) + "…"
	}
	return text
}

// sleep waits for d, and reports whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
