package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A Progress shows how far a long command is: a bar on a terminal, and elsewhere a line every ten seconds. A command
// that takes less than a second shows nothing. It is safe for concurrent use.
type Progress struct {
	out io.Writer
	bar bool // out is a terminal

	mu    sync.Mutex
	next  time.Time // when something is written again
	shown bool      // there is a line on the terminal
}

const (
	lineEvery   = 10 * time.Second
	barEvery    = 100 * time.Millisecond
	barWidth    = 30
	widestShown = 78
)

// NewProgress returns a Progress on standard error.
func NewProgress(errs io.Writer) *Progress {
	p := &Progress{out: errs}
	if in, ok := errs.(io.Reader); ok && IsTerminal(in) {
		p.bar = true
	}
	p.next = time.Now().Add(time.Second)
	if !p.bar {
		p.next = time.Now().Add(lineEvery)
	}
	return p
}

// Bar reports whether the progress is shown on a terminal.
func (p *Progress) Bar() bool { return p.bar }

// Show shows that done of total is done. text says it in words.
func (p *Progress) Show(done, total int64, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	if !p.bar {
		fmt.Fprintln(p.out, text)
		p.next = now.Add(lineEvery)
		return
	}
	filled := barWidth
	if total > done {
		filled = int(barWidth * max(done, 0) / total)
	}
	line := fmt.Sprintf("[%-*s] %s", barWidth, strings.Repeat("#", filled), text)
	fmt.Fprintf(p.out, "\r%-*s", widestShown, line)
	p.next, p.shown = now.Add(barEvery), true
}

// Note writes a line of its own.
func (p *Progress) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	fmt.Fprintln(p.out, text)
}

// End removes the line from a terminal. What comes next prints its own.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func (p *Progress) end() {
	if p.shown {
		fmt.Fprintf(p.out, "\r%*s\r", widestShown, "")
		p.shown = false
	}
}

// Count writes a number and its noun: "1 record", "2 records".
func Count[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Size writes a number of bytes with a unit: "12.0 MiB".
func Size(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return Count(n, "byte")
}
