package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"keymill/storage"
	"keymill/storage/durable"
)

const (
	tailMemory = 1 << 20  // bytes of changes that a tail keeps in memory
	tailRoom   = 64 << 20 // bytes that its file leaves free on the disk
)

// A tail keeps the changes that are committed while pages are read: in memory, and beyond tailMemory in
// a file that has no name, so that a crash leaves none. The file may be on the disk of the store. So it
// leaves room there for commits: a copy fails before it can make a commit fail.
type tail struct {
	dir  string
	max  int64
	room int64 // that the disk keeps

	mu    sync.Mutex // owns what follows
	buf   []byte
	file  *os.File // nil until buf was full once
	bytes int64    // in file and buf
	count int
	err   error // the first; nothing is kept after it
}

// add keeps the writes of one commit. It runs in the goroutine that commits.
func (t *tail) add(writes []storage.Write) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	before := len(t.buf)
	for _, w := range writes {
		if w.Key != storage.MovedKey {
			t.buf = appendWrite(t.buf, w)
			t.count++
		}
	}
	t.bytes += int64(len(t.buf) - before)
	if t.bytes > t.max {
		t.fail(fmt.Errorf("more than %d MB were changed before all records were read: the reader of the backup is too slow", t.max>>20))
		return
	}
	if len(t.buf) >= tailMemory {
		if err := t.spill(); err != nil {
			t.fail(fmt.Errorf("keep changes: %w", err))
		}
	}
}

func (t *tail) fail(err error) { t.err, t.buf = err, nil }

// spill appends the memory to the file.
func (t *tail) spill() error {
	if t.file == nil {
		f, err := unnamed(t.dir)
		if err != nil {
			return err
		}
		t.file = f
	}
	if left, err := durable.Free(t.dir); err == nil && left < t.room {
		return fmt.Errorf("the disk of %s has less than %d MB left", t.dir, t.room>>20)
	}
	_, err := t.file.Write(t.buf)
	t.buf = t.buf[:0]
	return err
}

// unnamed opens a new file that has no name. On a file system without such files it has one for a moment.
func unnamed(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, "keymill.backup-*"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// failed returns why the changes are not whole, or nil.
func (t *tail) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// changes returns how many changes there are.
func (t *tail) changes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// copyTo writes all changes, of which no more come.
func (t *tail) copyTo(e *encoder) (count int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return 0, t.err
	}
	if t.file != nil {
		if _, err := t.file.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		if _, err := io.Copy(e.w, t.file); err != nil {
			return 0, err
		}
	}
	return t.count, e.raw(t.buf)
}

func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail(os.ErrClosed)
	if t.file != nil {
		t.file.Close()
	}
}
