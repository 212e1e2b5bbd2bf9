package namedfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWhatIsNoFileIsOneLineAndNeverHangs.
func TestWhatIsNoFileIsOneLineAndNeverHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sparse, err := os.Create(at("sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	if err := errors.Join(sparse.Truncate(1<<40), syscall.Mkfifo(at("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	go writeEndlessly(at("fifo"))
	for path, want := range map[string]string{
		dir:            "is a directory, not a file",
		at("socket"):   "is a socket or a device without a driver, not a file",
		"/dev/zero":    "is too long (over 4096 bytes)",
		"/dev/urandom": "is too long (over 4096 bytes)",
		at("sparse"):   "is too long (over 4096 bytes)",
		at("fifo"):     "is too long (over 4096 bytes)",
	} {
		b, err := Read(path, 4096)
		if len(b) > 4096 || err == nil || err.Error() != path+" "+want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	if _, err := Read(at("missing"), 4096); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if b, err := Read("/dev/null", 4096); err != nil || len(b) != 0 {
		t.Errorf("/dev/null: %q, %v", b, err)
	}
	for _, path := range []string{at("fifo"), "/dev/null", "/dev/zero"} {
		if _, err := ReadRegular(path, 4096); err == nil || err.Error() != path+" is not a regular file" {
			t.Errorf("%s as a file that was written as a whole: %v", path, err)
		}
	}
}

func writeEndlessly(path string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
}

// TestAFIFOIsWaitedForALimitedTime: without a program that writes, with one that does not write, and with one that
// stops to write.
func TestAFIFOIsWaitedForALimitedTime(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(path string) (io.Closer, error){
		"no program": func(string) (io.Closer, error) { return io.NopCloser(nil), nil },
		"a program that does not write": func(path string) (io.Closer, error) {
			return os.OpenFile(path, os.O_RDWR, 0)
		},
		"a program that stops to write": func(path string) (io.Closer, error) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteString("begun")
			}
			return f, err
		},
	} {
		path := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		writer, err := write(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := open(path, 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(f)
		if want := path + " is a FIFO, and no program has written to it for 20ms"; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		f.Close()
		writer.Close()
	}
}

// TestWhatAProgramWritesIsRead to its end: through a FIFO whose program comes late, a pipe of a shell, and standard
// input.
func TestWhatAProgramWritesIsRead(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text := bytes.Repeat([]byte("0123456789"), 20000) // more than a pipe holds
	go func() {
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err == nil {
			for part := range bytes.SplitSeq(text, []byte("5")) {
				f.Write(append(part, '5'))
			}
			f.Close()
		}
	}()
	go func() {
		w.Write(text)
		w.Close()
	}()
	for _, path := range []string{fifo, fmt.Sprintf("/dev/fd/%d", r.Fd())} {
		got, err := Read(path, 1<<20)
		if err != nil || !bytes.HasPrefix(got, text) {
			t.Errorf("%s: %d bytes, %v, want %d", path, len(got), err, len(text))
		}
	}
}

// TestNoOtherPackageOpensWhatAnOperatorNames: this package opens without blocking. The files that are listed here
// are in the data directory or made by the program, and are opened without following a FIFO, or the kernel makes them.
func TestNoOtherPackageOpensWhatAnOperatorNames(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{
		"internal/datadir/names.go": `unix.O_NONBLOCK`,
		"internal/datadir/owner.go": `O_NONBLOCK`,

		"internal/console/peer/peer.go": `os.Open(path)`, // the kernel's lists of connections, /proc/net/tcp and tcp6
	}
	opens := regexp.MustCompile(`\b(os\.(Open|OpenFile|ReadFile|Create)|unix\.Open|syscall\.Open|ioutil\.ReadFile)\(`)
	top := filepath.Join("..", "..")
	if err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(filepath.Dir(path)) == "namedfile" {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(top, path)
		for line := range strings.Lines(string(text)) {
			if reason := allowed[filepath.ToSlash(name)]; opens.MatchString(line) && (reason == "" || !strings.Contains(line, reason)) {
				t.Errorf("%s: %s: use package namedfile", name, strings.TrimSpace(line))
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
