package auditlines

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/durable"
)

// A File is a Destination that appends to the file at a path. It looks at the path before each write: after
// logrotate has renamed the file, the lines go to a new one.
//
// The file is locked while it is open: lines of two servers would be two chains in one file.
type File struct {
	path string
	log  *slog.Logger
	file *os.File // nil if it is not open

	last  []byte // the last whole line of the file when it was opened; nil after the first write
	tail  []byte // what follows its last line break: the beginning of a line
	size  int64  // of the file after the last write
	again bool   // a sync has failed, so the lines at the end may not be on disk
}

// NewFile returns a File that is opened by its first Write. log gets a line if the file has later records than the
// store, as after a restore.
func NewFile(path string, log *slog.Logger) *File { return &File{path: path, log: log} }

const (
	lineBegin = `{"seq":` // of every record
	tailBytes = 16 << 10  // more than two records
)

// Write appends the lines that the file does not end with, and syncs it. The beginning of a line that a full
// disk or a crash has left is completed, or ended if it is that of another line.
func (d *File) Write(lines [][]byte) (int, error) {
	if err := d.follow(); err != nil {
		return 0, err
	}
	skipped := d.endsWith(lines)
	text := d.text(lines[skipped:])
	n, err := d.file.Write(text)
	d.size += int64(n)
	written := d.wrote(text[:n], lines[skipped:])
	if syncErr := d.file.Sync(); syncErr != nil {
		d.again = true
		d.close()
		return 0, errors.Join(err, syncErr)
	}
	d.again = false
	return skipped + written, err
}

// follow opens the file that is at the path now. It reads its end again if another program has shortened it or has written to
// it.
func (d *File) follow() error {
	if d.file != nil {
		now, err := os.Lstat(d.path)
		ours, ourErr := d.file.Stat()
		if err == nil && ourErr == nil && os.SameFile(now, ours) && ours.Size() == d.size {
			return nil
		}
		d.close()
	}
	return d.open()
}

func (d *File) close() {
	d.file.Close()
	d.file = nil
}

func (d *File) open() error {
	f, err := namedfile.Append(d.path)
	if err != nil {
		return err
	}
	if err = lock(f, d.path); err == nil {
		d.last, d.tail, d.size, err = readEnd(f, d.path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(d.path)) // the file may be new
		if errors.Is(err, os.ErrPermission) {
			err = nil
		}
	}
	if err != nil {
		f.Close()
		return err
	}
	if d.again {
		d.last = nil
	}
	d.file = f
	return nil
}

// lock takes the file until it is closed. A file system without locks is no fault.
func lock(f *os.File, path string) error {
	if errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		return terminal.WithHint(fmt.Errorf("another server writes to %s", path), "give each server a file of its own in audit.log")
	}
	return nil
}

// readEnd returns the last whole line of a file, what follows it, and the size. A file with other content is an error: the path
// is a mistake, and appending to the file would damage it.
func readEnd(f *os.File, path string) (last, tail []byte, size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, 0, err
	}
	size = info.Size()
	begin := make([]byte, min(size, int64(len(lineBegin))))
	end := make([]byte, min(size, tailBytes))
	if _, err = f.ReadAt(begin, 0); err == nil {
		_, err = f.ReadAt(end, size-int64(len(end)))
	}
	if err != nil {
		return nil, nil, 0, err
	}
	if string(begin) != lineBegin[:len(begin)] {
		return nil, nil, 0, fmt.Errorf("%s contains data other than audit records", path)
	}
	whole := bytes.LastIndexByte(end, '\n') + 1
	tail = end[whole:]
	if whole > 0 {
		end = end[:whole-1]
		last = end[bytes.LastIndexByte(end, '\n')+1:]
	}
	return last, tail, size, nil
}

// endsWith returns how many of the lines the file already has at its end.
func (d *File) endsWith(lines [][]byte) int {
	last := d.last
	d.last = nil
	if last != nil {
		for n, line := range lines {
			if bytes.Equal(line, last) {
				return n + 1
			}
		}
		d.compare(last, lines)
	}
	return 0
}

// compare logs if the next line has a number that the file has already. It is written nevertheless: the file then
// has two records of a number, and loses none.
func (d *File) compare(last []byte, lines [][]byte) {
	var inFile, next struct {
		Seq uint64 `json:"seq"`
	}
	if len(lines) == 0 || json.Unmarshal(last, &inFile) != nil || json.Unmarshal(lines[0], &next) != nil || inFile.Seq < next.Seq {
		return
	}
	d.log.Error("audit.log has later records than the store, as after a restore; the next records have numbers that the file has already",
		"to", d.path, "last_in_file", inFile.Seq, "next", next.Seq)
}

// text returns what completes the file with the lines.
func (d *File) text(lines [][]byte) []byte {
	if len(lines) == 0 {
		return nil
	}
	text := append(bytes.Join(lines, []byte("\n")), '\n')
	switch {
	case len(d.tail) == 0:
		return text
	case bytes.HasPrefix(lines[0], d.tail):
		return text[len(d.tail):]
	}
	return append([]byte{'\n'}, text...)
}

// wrote notes that text was written, and returns how many of the lines are whole.
func (d *File) wrote(text []byte, lines [][]byte) int {
	breaks := bytes.Count(text, []byte("\n"))
	if len(d.tail) > 0 && len(lines) > 0 && !bytes.HasPrefix(lines[0], d.tail) {
		breaks = max(breaks-1, 0) // the first one ended a line of someone else
	}
	whole := append(bytes.Clone(d.tail), text...)
	d.tail = whole[bytes.LastIndexByte(whole, '\n')+1:]
	return breaks
}
