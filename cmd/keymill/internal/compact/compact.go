// Package compact is the command that gives the free pages of a stopped store back to the disk. It checks the
// store, lets package storage/bolt write a new file, and shows how far that is.
package compact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/bolt"
)

// Options say what to compact.
type Options struct {
	Data    string    // the data directory, which holds a store
	Program string    // this program, which is run again to check the pages
	Notes   io.Writer // standard error: shows how far it is
}

// A Result is what was done.
type Result struct {
	File    string `json:"file"`
	Records int    `json:"records"`
	Before  int64  `json:"bytes_before"`
	After   int64  `json:"bytes_after"` // equal if the file was kept
}

// Run compacts the store. After an error, and when ctx ends, the store is as it was.
func Run(ctx context.Context, o Options) (Result, error) {
	r := Result{File: filepath.Join(o.Data, "keymill.db")}
	if err := serve.CheckDir(o.Data); err != nil {
		return r, err
	}
	dir, err := serve.OpenDir(o.Data, false)
	if err != nil {
		return r, lockFault(err)
	}
	defer dir.Undo() // and with it the lock file, if there was none
	p := newProgress(o.Notes)
	defer p.end()
	if err := diagnose.CheckStorePages(ctx, o.Program, r.File, p.report("checking")); err != nil {
		return r, fault(ctx, terminal.WithHint(fmt.Errorf("%s was not compacted: %w", r.File, err), "keymill doctor --data %s says what is wrong", terminal.ShellWord(o.Data)))
	}
	done, err := bolt.Compact(ctx, r.File, p.report("compacting"))
	r.Records, r.Before, r.After = done.Records, done.Before, done.After
	return r, fault(ctx, err)
}

// lockFault says what to do if the directory cannot be locked.
func lockFault(err error) error {
	inUse := (*serve.InUseError)(nil)
	switch {
	case errors.As(err, &inUse):
		return terminal.WithHint(err, "stop the server first: a store is compacted only while no server has it")
	case errors.Is(err, fs.ErrPermission):
		return terminal.WithHint(err, "run it as the server's user, or as root")
	}
	return err
}

// fault says what an error of the work means.
func fault(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted; the store is as it was")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return terminal.WithHint(err, "the store is as it was; free space on its disk, and run it again")
	case errors.Is(err, fs.ErrPermission):
		return terminal.WithHint(err, "run it as the server's user, or as root")
	}
	return err
}

// Print writes a sentence about the result.
func (r Result) Print(w io.Writer) error {
	name := terminal.Printable(r.File)
	if r.After == r.Before {
		_, err := fmt.Fprintf(w, "nothing to gain: %s has %s, and its %d records need as much\n", name, bytesText(r.Before), r.Records)
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %s before, %s now, %d records\n", name, bytesText(r.Before), bytesText(r.After), r.Records)
	return err
}

// bytesText writes a size with three digits.
func bytesText(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// A progress shows a bar on a terminal, and elsewhere a line every ten seconds.
type progress struct {
	out      io.Writer
	terminal bool
	next     time.Time
	shown    bool // there is a line on the terminal
}

const lineEvery = 10 * time.Second

func newProgress(out io.Writer) *progress {
	f, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && terminal.IsTerminal(f), next: time.Now().Add(time.Second)}
}

// report returns the function that shows one part of the work.
func (p *progress) report(what string) func(percent int) {
	return func(percent int) {
		now := time.Now()
		switch {
		case now.Before(p.next):
		case p.terminal:
			const width = 30
			done := width * percent / 100
			fmt.Fprintf(p.out, "\r%-10s [%-*s] %3d %%", what, width, "##############################"[:done], percent)
			p.next, p.shown = now.Add(100*time.Millisecond), true
		default:
			fmt.Fprintf(p.out, "%s: %d %%\n", what, percent)
			p.next = now.Add(lineEvery)
		}
	}
}

// end removes the line from a terminal.
func (p *progress) end() {
	if p.shown {
		fmt.Fprintf(p.out, "\r%60s\r", "")
	}
}
