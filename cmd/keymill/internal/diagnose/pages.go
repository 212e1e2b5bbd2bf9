package diagnose

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/bolt"
)

// The pages of a store are checked by a process of their own, because bbolt checks them in
// goroutines whose panics no program can catch. The process is this program with PagesVerb and
// the path of the file. It gets no master key: neither a setting nor a file that is open. Its
// lock on the file is shared, as that of this process. It writes lines to stdout,
//
//	percent N    how much is read
//	damaged …    one finding
//
// and ends when its stdin is closed, so it does not outlive this process.
const (
	PagesVerb = "check-pages"

	lineDamaged = "damaged "
	linePercent = "percent "
)

// CheckPages is that process. An error of the check is a finding too.
func CheckPages(ctx context.Context, path string, in io.Reader, out io.Writer) {
	go endWith(in, func() { os.Exit(1) }) // bbolt's check does not end with ctx
	last := -1
	err := bolt.CheckFile(ctx, path, func(percent int) {
		if percent != last {
			fmt.Fprintln(out, linePercent+strconv.Itoa(percent))
		}
		last = percent
	})
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(out, lineDamaged+line)
		}
	}
}

// endWith calls exit when in ends: the process at its other end has closed it or is gone.
func endWith(in io.Reader, exit func()) {
	io.Copy(io.Discard, in)
	exit()
}

// pagesLimit is how long the check of a file of size bytes may take. A slow disk reads a megabyte in
// a second. A check that takes longer goes in circles.
func pagesLimit(size int64) time.Duration {
	return 2*time.Minute + time.Duration(size>>20)*time.Second
}

// checkPages runs the process and returns what it found.
func (d *Doctor) checkPages(ctx context.Context, path string, size int64) error {
	limit := pagesLimit(size)
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the check of its pages did not end within %v", limit))
	defer cancel()
	c := exec.CommandContext(bounded, d.Program, PagesVerb, path)
	c.Env = withoutSettings(os.Environ())
	stdin, err := c.StdinPipe()
	if err != nil {
		return err
	}
	defer stdin.Close() // the process ends with this one, also if that is killed
	stdout, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	var stderr beginning
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		return fmt.Errorf("cannot start the check of the pages: %w", err)
	}
	found := d.readPages(stdout)
	err = c.Wait()
	switch {
	case bounded.Err() != nil:
		return fmt.Errorf("the store is damaged, or the disk is very slow: %w", context.Cause(bounded))
	case len(found) > 0:
		return errors.New(strings.Join(found, "; "))
	case err != nil:
		return fmt.Errorf("the store is damaged: the check of its pages ended with %w: %s", err, stderr.reason())
	}
	return nil
}

// readPages reads the lines of the process, shows how far it is, and returns its findings.
func (d *Doctor) readPages(r io.Reader) (found []string) {
	lines := bufio.NewScanner(r)
	begun, shown := time.Now(), false
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), lineDamaged); ok {
			found = append(found, terminal.OneLine(text))
		}
		percent, ok := strings.CutPrefix(lines.Text(), linePercent)
		if n, err := strconv.Atoi(percent); ok && err == nil && d.report != nil {
			d.report(min(max(n, 0), 100))
		}
		if ok && d.Progress != nil && time.Since(begun) > time.Second {
			fmt.Fprintf(d.Progress, "\rchecking the pages of the store: %s %%", terminal.Printable(percent))
			shown = true
		}
	}
	io.Copy(io.Discard, r) // after a line that is too long
	if shown {
		d.clearProgress()
	}
	return found
}

// withoutSettings returns the environment without what may hold or name a secret.
func withoutSettings(env []string) (kept []string) {
	for _, e := range env {
		if !strings.HasPrefix(e, "KEYMILL_") && !strings.HasPrefix(e, "CREDENTIALS_DIRECTORY=") {
			kept = append(kept, e)
		}
	}
	return kept
}

// A beginning keeps the beginning of what is written: a panic says there what happened.
type beginning struct{ bytes.Buffer }

func (b *beginning) Write(p []byte) (int, error) {
	if room := 4096 - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// reason returns the line of a panic, or else the first line.
func (b *beginning) reason() string {
	first := ""
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSpace(line)
		for _, prefix := range []string{"panic: ", "fatal error: "} {
			if text, ok := strings.CutPrefix(line, prefix); ok {
				return text
			}
		}
		if first == "" {
			first = line
		}
	}
	return first
}
