package backupfile

import (
	"fmt"
	"io"
	"os"
	"time"

	"keymill/cmd/keymill/internal/terminal"
)

// How often a log and a terminal get a line.
const (
	logEvery      = 10 * time.Second
	terminalEvery = 100 * time.Millisecond
)

// NewProgress returns a Progress that writes to standard error.
func NewProgress(errs io.Writer) *Progress {
	f, ok := errs.(*os.File)
	return &Progress{Out: errs, Terminal: ok && terminal.IsTerminal(f)}
}

// A Progress shows how much was read.
type Progress struct {
	In       io.Reader
	Out      io.Writer // nil shows nothing
	Terminal bool      // Out is one: the line is written over itself
	Total    int64     // about; 0 if it is not known

	read int64
	next time.Time
}

// Read implements io.Reader.
func (p *Progress) Read(b []byte) (int, error) {
	n, err := p.In.Read(b)
	p.read += int64(n)
	if now := time.Now(); p.Out != nil && now.After(p.next) {
		if !p.Terminal && p.next.IsZero() {
			p.next = now.Add(logEvery) // a short copy needs no line
			return n, err
		}
		p.show(now)
	}
	return n, err
}

func (p *Progress) show(now time.Time) {
	text := fmt.Sprintf("%d MB", p.read>>20)
	if p.Total > 0 {
		text = fmt.Sprintf("%s of about %d MB", text, max(p.Total, p.read)>>20)
	}
	if !p.Terminal {
		fmt.Fprintln(p.Out, text)
		p.next = now.Add(logEvery)
		return
	}
	const width = 30
	done := width
	if p.Total > p.read {
		done = int(width * p.read / p.Total)
	}
	fmt.Fprintf(p.Out, "\r[%-*s] %-30s", width, bar[:done], text)
	p.next = now.Add(terminalEvery)
}

const bar = "##############################"

// End removes the line of a terminal.
func (p *Progress) End() {
	if p.Out != nil && p.Terminal && !p.next.IsZero() {
		fmt.Fprintf(p.Out, "\r%70s\r", "")
	}
}
