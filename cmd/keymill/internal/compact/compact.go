// Package compact is the command that gives the free pages of a stopped store back to the disk. It checks the
// store, lets package storage/bolt write a new file, and shows how far that is.
package compact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"keymill/cmd/keymill/internal/datadir"
	"keymill/cmd/keymill/internal/diagnose"
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
	if err := datadir.Check(o.Data); err != nil {
		return r, err
	}
	dir, err := datadir.Open(o.Data, false)
	if err != nil {
		return r, lockFault(err)
	}
	defer dir.Undo() // and with it the lock file, if there was none
	p := terminal.NewProgress(o.Notes)
	defer p.End()
	report := func(what string) func(int) {
		return func(percent int) { p.Show(int64(percent), 100, fmt.Sprintf("%s: %d %%", what, percent)) }
	}
	if err := diagnose.CheckStorePages(ctx, o.Program, r.File, report("checking")); err != nil {
		return r, fault(ctx, terminal.WithHint(fmt.Errorf("%s was not compacted: %w", r.File, err), "keymill doctor --data %s says what is wrong", terminal.ShellWord(o.Data)))
	}
	done, err := bolt.Compact(ctx, r.File, report("compacting"))
	r.Records, r.Before, r.After = done.Records, done.Before, done.After
	return r, fault(ctx, err)
}

// lockFault says what to do if the directory cannot be locked.
func lockFault(err error) error {
	inUse := (*datadir.InUseError)(nil)
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
	space := (*bolt.SpaceError)(nil)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted; the store is as it was")
	case errors.As(err, &space):
		return terminal.WithHint(fmt.Errorf("the new file needs %s in %s, and %s are free", terminal.Size(space.Need), space.Dir, terminal.Size(space.Free)),
			"the store is as it was; free space on its disk, and run it again")
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
		_, err := fmt.Fprintf(w, "nothing to gain: %s has %s, no more than its records need (%s)\n", name, terminal.Size(r.Before), terminal.Count(r.Records, "record"))
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %s before, %s now, %s\n", name, terminal.Size(r.Before), terminal.Size(r.After), terminal.Count(r.Records, "record"))
	return err
}
