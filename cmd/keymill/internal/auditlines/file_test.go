package auditlines

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/terminal"
)

var quiet = slog.New(slog.DiscardHandler)

// records returns lines as those of records, from first to last.
func records(first, last int) (lines [][]byte) {
	for n := first; n <= last; n++ {
		lines = append(lines, fmt.Appendf(nil, `{"seq":%d,"target":"%s"}`, n, strings.Repeat("x", n%50)))
	}
	return lines
}

func text(first, last int) string {
	return string(bytes.Join(records(first, last), []byte("\n"))) + "\n"
}

func write(t *testing.T, d *File, first, last int) {
	t.Helper()
	if n, err := d.Write(records(first, last)); err != nil || n != last-first+1 {
		t.Fatalf("Write of %d to %d: %d, %v", first, last, n, err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAFileIsCreatedForItsOwnerAndAppendedTo. The mode of a file that exists is the operator's choice.
func TestAFileIsCreatedForItsOwnerAndAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	first := NewFile(path, quiet)
	write(t, first, 1, 3)
	first.close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	os.Chmod(path, 0o640)
	write(t, NewFile(path, quiet), 4, 4)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 || content(t, path) != text(1, 4) {
		t.Errorf("mode %v, %q", info.Mode(), content(t, path))
	}
}

// TestARestartRepeatsNoLine: at every byte where a crash can have ended the file, the same lines complete it.
func TestARestartRepeatsNoLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	whole := text(1, 4)
	for cut := len(text(1, 1)); cut <= len(whole); cut++ {
		if err := os.WriteFile(path, []byte(whole[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		d := NewFile(path, quiet)
		write(t, d, 2, 4) // the store remembers record 1
		d.close()
		if got := content(t, path); got != whole {
			t.Fatalf("cut at %d: %q", cut, got)
		}
	}
}

// TestTheBeginningOfAnotherLineIsEnded, and the lines after it are whole.
func TestTheBeginningOfAnotherLineIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(text(1, 2)+`{"seq":9`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := NewFile(path, quiet)
	write(t, d, 3, 4)
	write(t, d, 5, 5)
	if got, want := content(t, path), text(1, 2)+"{\"seq\":9\n"+text(3, 5); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestAMovedFileIsFollowed: logrotate renames it, and the next lines go to a new file, or to one that
// logrotate has created. So do they after it was removed.
func TestAMovedFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	d := NewFile(path, quiet)
	write(t, d, 1, 2)
	for n, make := range []func() error{
		func() error { return nil },
		func() error { return os.WriteFile(path, nil, 0o640) },
		func() error { return os.Remove(path + ".3") },
	} {
		if err := os.Rename(path, fmt.Sprint(path, ".", n+1)); err != nil {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		write(t, d, 3+n, 3+n)
		if got := content(t, path); got != text(3+n, 3+n) {
			t.Errorf("move %d: %q", n+1, got)
		}
	}
	if got := content(t, path+".1"); got != text(1, 2) {
		t.Errorf("the moved file has %q", got)
	}
	if err := os.Truncate(path, 0); err != nil { // copytruncate, which is not advised
		t.Fatal(err)
	}
	write(t, d, 6, 6)
	if got := content(t, path); got != text(6, 6) {
		t.Errorf("after it was truncated: %q", got)
	}
}

// TestTwoServersWriteToNoFileTogether: the second one gets an error and writes nothing, also after logrotate has renamed
// the file. It writes once the first has ended.
func TestTwoServersWriteToNoFileTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	first, second := NewFile(path, quiet), NewFile(path, quiet)
	for round := range 2 {
		write(t, first, 2*round+1, 2*round+2)
		want := content(t, path)
		if n, err := second.Write(records(1, 5)); n != 0 || err == nil || err.Error() != "another server writes to "+path || terminal.HintOf(err) == "" {
			t.Errorf("round %d: %d, %v", round, n, err)
		}
		if got := content(t, path); got != want {
			t.Errorf("round %d: %q", round, got)
		}
		if round == 0 {
			os.Rename(path, path+".1")
		}
	}
	first.close()
	write(t, second, 5, 6)
	if got := content(t, path); got != text(3, 6) {
		t.Errorf("%q", got)
	}
}

// TestALaterFileIsNamedOnce: after a restore the file can end with a later record than the store. All records are
// written, and one line of the log has both numbers.
func TestALaterFileIsNamedOnce(t *testing.T) {
	for _, tt := range []struct {
		inFile string
		first  int
		logged string
	}{
		{text(1, 9), 5, "last_in_file=9 next=5"},
		{text(1, 4) + `{"seq":5,"target":"other"}` + "\n", 5, "last_in_file=5 next=5"},
		{text(1, 9) + `{"seq":10,"tar`, 5, "last_in_file=9 next=5"},
		{text(1, 4), 5, ""},
		{text(1, 6), 5, ""}, // a crash before the place was remembered
		{text(1, 9) + "no record\n", 5, ""},
		{"", 5, ""},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		if err := os.WriteFile(path, []byte(tt.inFile), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		d := NewFile(path, slog.New(slog.NewTextHandler(&log, nil)))
		write(t, d, tt.first, 7)
		write(t, d, 8, 8)
		if n := strings.Count(log.String(), "\n"); !strings.Contains(log.String(), tt.logged) || (n != 0) != (tt.logged != "") || n > 1 {
			t.Errorf("%q: log %s", tt.inFile, &log)
		}
		if got := content(t, path); !strings.HasPrefix(got, tt.inFile) || !strings.HasSuffix(got, text(7, 8)) {
			t.Errorf("%q: the file has %q", tt.inFile, got)
		}
		d.close()
	}
}

// TestALineNeverContinuesWhatAnotherProgramHasLeft: a file that was shortened in the middle of a line, at the end of one, or
// in the first one, and a file to which another program has written. Each record is a line of its own.
func TestALineNeverContinuesWhatAnotherProgramHasLeft(t *testing.T) {
	whole := len(text(1, 2))
	for name, change := range map[string]func(path string) error{
		"the middle of a line":       func(path string) error { return os.Truncate(path, int64(whole+10)) },
		"the end of a line":          func(path string) error { return os.Truncate(path, int64(whole)) },
		"the last byte":              func(path string) error { return os.Truncate(path, int64(len(text(1, 3))-1)) },
		"the first line":             func(path string) error { return os.Truncate(path, 10) },
		"a line of another program":  func(path string) error { return appendTo(path, "other\n") },
		"the beginning of some line": func(path string) error { return appendTo(path, `{"seq":9`) },
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		d := NewFile(path, quiet)
		write(t, d, 1, 3)
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		before := content(t, path)
		write(t, d, 4, 5)
		write(t, d, 6, 6)
		if got := content(t, path); got != before+text(4, 6) && got != before+"\n"+text(4, 6) || !strings.Contains(got, "\n"+text(4, 6)) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// TestNothingElseIsWrittenTo: what is at the path is left as it is, and works again once the path is free.
func TestNothingElseIsWrittenTo(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	os.Mkdir("directory", 0o700)
	os.WriteFile("target", nil, 0o600)
	os.Symlink("target", "link")
	syscall.Mkfifo("fifo", 0o600)
	os.WriteFile("key", []byte("c2VjcmV0IGtleQ=="), 0o600)
	os.WriteFile("other.json", []byte(`{"level":"INFO"}`), 0o600)
	for path, want := range map[string]string{
		"directory": "is a directory", "link": "is a symbolic link, which is not followed", "fifo": "is not a regular file",
		"/dev/null": "is not a regular file", "key": "contains data other than audit records", "other.json": "contains data other", "missing/audit.log": "no such file or directory",
	} {
		before, _ := os.ReadFile("key")
		d := NewFile(path, quiet)
		if n, err := d.Write(records(1, 2)); n != 0 || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d, %v", path, n, err)
		}
		if now, _ := os.ReadFile("key"); !bytes.Equal(before, now) || content(t, "target") != "" {
			t.Errorf("%s: a file was changed", path)
		}
		if strings.HasPrefix(path, "/") {
			continue
		}
		if path == "missing/audit.log" {
			os.Mkdir("missing", 0o700)
		} else if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		write(t, d, 1, 2)
	}
}

// TestAFullDiskBreaksNoLine: what fits is written, and the rest follows when there is space.
func TestAFullDiskBreaksNoLine(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("keymill-test", dir, "tmpfs", 0, "size=32k"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("cannot mount a small disk: ", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	filler, path := filepath.Join(dir, "filler"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(filler, make([]byte, 24<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	d := NewFile(path, quiet)
	const all = 400
	done := 0
	for tries := 0; done < all; tries++ {
		n, err := d.Write(records(done+1, all))
		done += n
		if got := content(t, path); !strings.HasPrefix(text(1, all), got) {
			t.Fatalf("after %d lines the file is no beginning of the log", done)
		}
		switch {
		case err == nil && done < all, tries > 2, tries == 0 && err == nil:
			t.Fatalf("try %d: %d lines, %v", tries, done, err)
		case tries == 1: // it was full twice
			os.Remove(filler)
		}
	}
	if got := content(t, path); got != text(1, all) {
		t.Errorf("%d bytes", len(got))
	}
}

// TestLogrotateLosesNoLine with the configuration in docs/operate.md.
func TestLogrotateLosesNoLine(t *testing.T) {
	program, err := exec.LookPath("logrotate")
	if err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("logrotate cannot be run as root: ", err)
		}
		t.Skip("logrotate cannot be run as root: ", err)
	}
	page, err := os.ReadFile("../../../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, conf, _ := strings.Cut(string(page), "# /etc/logrotate.d/keymill\n")
	conf, _, _ = strings.Cut(conf, "```")
	dir := t.TempDir()
	path, file := filepath.Join(dir, "audit.log"), filepath.Join(dir, "logrotate.conf")
	conf = strings.NewReplacer("/var/log/keymill/audit.log", path, "su keymill keymill", "su root root").Replace(conf)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil || !strings.Contains(conf, "rotate 24") {
		t.Fatalf("%v; the configuration is %q", err, conf)
	}
	d := NewFile(path, quiet)
	for n := range 4 {
		write(t, d, 5*n+1, 5*n+5)
		if out, err := exec.Command(program, "-f", "-s", filepath.Join(dir, "state"), file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	write(t, d, 21, 21)
	got := ""
	for _, suffix := range []string{".4.gz", ".3.gz", ".2.gz", ".1", ""} {
		b := []byte(content(t, path+suffix))
		if strings.HasSuffix(suffix, ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if b, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		got += string(b)
	}
	if got != text(1, 21) {
		t.Errorf("the files together have %q", got)
	}
}

// TestLinesThatMayNotBeOnDiskAreWrittenAgain: after a sync that failed, the end of the file proves nothing.
func TestLinesThatMayNotBeOnDiskAreWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	d := NewFile(path, quiet)
	write(t, d, 1, 3)
	d.again = true // as after the fault
	d.close()
	write(t, d, 2, 3)
	if got, want := content(t, path), text(1, 3)+text(2, 3); got != want || d.again {
		t.Errorf("%q, want %q", got, want)
	}
}
