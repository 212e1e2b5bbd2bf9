package namedfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a read waits for the program that writes a FIFO. Without a bound, a start whose key is a
// FIFO that no program writes would wait for ever and say nothing.
const patience = time.Minute

// A File is open to be read once, from its beginning to its end.
type File struct {
	file  *os.File
	wait  time.Duration // for the next bytes; 0 without a bound
	begun bool
}

// Open opens the file at path. It does not block, and refuses a directory, a socket and a disk.
//
// A read of a FIFO ends with an error if nothing comes within a minute. A pipe without a name, such as
// /dev/stdin or <(command) of a shell, is read for as long as its program writes, as standard input is.
// The caller bounds how much it reads: see Read and Bounded.
func Open(path string) (*File, error) { return open(path, patience) }

func open(path string, wait time.Duration) (*File, error) {
	// A terminal must not become the controlling one of a server.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%s is a socket or a device without a driver, not a file", path)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = checkKind(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if info.Mode().Type() != fs.ModeNamedPipe || hasNoName(f) {
		wait = 0
	}
	return &File{file: f, wait: wait}, nil
}

func checkKind(path string, info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return fmt.Errorf("%s is a directory, not a file", path)
	case mode.Type() == fs.ModeDevice:
		return fmt.Errorf("%s is a disk, not a file", path)
	}
	return nil
}

// hasNoName reports whether f is a pipe of pipe(2). Its file system has no other files.
func hasNoName(f *os.File) bool {
	conn, err := f.SyscallConn() // Fd would end the deadlines of f
	if err != nil {
		return false
	}
	var st unix.Statfs_t
	controlErr := conn.Control(func(fd uintptr) { err = unix.Fstatfs(int(fd), &st) })
	return controlErr == nil && err == nil && st.Type == unix.PIPEFS_MAGIC
}

// Read reads the file. It is an io.Reader.
func (f *File) Read(p []byte) (int, error) {
	if f.wait == 0 {
		return f.file.Read(p)
	}
	if !f.begun {
		if err := f.await(); err != nil {
			return 0, err
		}
	}
	f.begun = true
	if err := f.file.SetReadDeadline(time.Now().Add(f.wait)); err != nil {
		return 0, err
	}
	n, err := f.file.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = f.silence()
	}
	return n, err
}

// await waits for the first bytes. Until a program has opened the FIFO to write, a read would find its end.
func (f *File) await() error {
	conn, err := f.file.SyscallConn()
	if err != nil {
		return err
	}
	ready := 0
	end := time.Now().Add(f.wait)
	if controlErr := conn.Control(func(fd uintptr) {
		for left := f.wait; left > 0; left = time.Until(end) {
			ready, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}); controlErr != nil {
		return controlErr
	}
	if err == nil && ready == 0 {
		err = f.silence()
	}
	return err
}

func (f *File) silence() error {
	return fmt.Errorf("%s is a FIFO, and no program has written to it for %v", f.Name(), f.wait)
}

// Name returns the path.
func (f *File) Name() string { return f.file.Name() }

// Stat describes the open file.
func (f *File) Stat() (fs.FileInfo, error) { return f.file.Stat() }

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Read returns what the file at path holds. More than most bytes are an error.
func Read(path string, most int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(Bounded(f, path, most))
}

// ReadRegular is Read for a file that a program has written as a whole: a FIFO or a device in its place is
// an error at once.
func ReadRegular(path string, most int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(Bounded(f, path, most))
}

// Bounded returns a reader of in that fails behind most bytes. name is what the error calls the input.
func Bounded(in io.Reader, name string, most int64) io.Reader {
	return &bounded{in: in, name: name, most: most, left: most}
}

type bounded struct {
	in         io.Reader
	name       string
	most, left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("%s is too long (over %d bytes)", b.name, b.most)
	}
	n, err := b.in.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return n - 1, fmt.Errorf("%s is too long (over %d bytes)", b.name, b.most)
	}
	return n, err
}
