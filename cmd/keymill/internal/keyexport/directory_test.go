package keyexport

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestADirectoryThatOthersCanWriteIsRefused, and so is what is no directory: with the reason, and with nothing
// changed.
func TestADirectoryThatOthersCanWriteIsRefused(t *testing.T) {
	base := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"all": 0o777, "sticky": 0o777 | fs.ModeSticky, "group": 0o770, "good": 0o700} {
		path := filepath.Join(base, name)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("good", filepath.Join(base, "link")), os.WriteFile(filepath.Join(base, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"all": "can be written by other users", "sticky": "can be written by other users", "group": "can be written by other users",
		"link": "is a symbolic link", "link/": "is a symbolic link", "file": "is not a directory", "file/below": "not a directory",
		"missing/below": "the directory " + filepath.Join(base, "missing") + " does not exist",
	} {
		w := &world{t: t, dir: base + "/" + name}
		err := w.export(PEM, setOf(t, "a"))
		if err == nil || errors.Is(err, Changed) || !strings.Contains(terminal.Plain(err), want) || w.out.Len() > 0 {
			t.Errorf("%s: %v", name, err)
		}
		if hint := terminal.HintOf(err); strings.Contains(hint, "chmod") == (name == "sticky") && strings.Contains(want, "other users") {
			t.Errorf("%s: %s", name, hint)
		}
	}
	for _, name := range []string{"all", "sticky", "group", "good"} {
		if got := files(t, filepath.Join(base, name)); len(got) > 0 {
			t.Errorf("%s has %q", name, got)
		}
	}
	if got := files(t, base); len(got) != 6 {
		t.Errorf("the tree has %q", got)
	}
}

// TestADirectoryOfAnotherUserIsRefused, except to root.
func TestADirectoryOfAnotherUserIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	for uid, refused := range map[int]bool{os.Getuid(): false, 0: false, os.Getuid() + 1: true} {
		err := checkOwner(dir, info, uid)
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), "belongs to uid") {
			t.Errorf("uid %d: %v", uid, err)
		}
	}
}

// TestAFileOfAnotherProgramStays: no export replaces or removes what no export wrote.
func TestAFileOfAnotherProgramStays(t *testing.T) {
	w := newWorld(t)
	w.changes("a")
	w.write("b.pem", "mine")
	w.write("note", "mine")
	err := w.export(PEM, setOf(t, "b", "c"))
	if err == nil || err.Error() != filepath.Join(w.dir, "b.pem")+" exists, and no export wrote it" || terminal.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	w.has("a.pem", "b.pem", "note") // nothing was changed before the error either
	w.changes("c")
	w.has("b.pem", "c.pem", "note")
	if w.read("b.pem") != "mine" || w.read("note") != "mine" {
		t.Error("a file of another program was changed")
	}
}

// TestAFileThatWasChangedByHand is written again if its key is published. Otherwise it stays, and each run says so.
func TestAFileThatWasChangedByHand(t *testing.T) {
	w := newWorld(t)
	w.changes("a", "b", "c")
	w.write("a.pem", "changed")
	w.write("b.pem", "changed")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.WriteFile(outside, []byte("mine"), 0o600), os.Remove(filepath.Join(w.dir, "c.pem")), os.Symlink(outside, filepath.Join(w.dir, "c.pem"))); err != nil {
		t.Fatal(err)
	}
	w.changes("a", "c")
	w.has("a.pem", "b.pem", "c.pem")
	if w.read("a.pem") != pemOf(t, "a") || w.read("c.pem") != pemOf(t, "c") || w.read("b.pem") != "changed" {
		t.Error("a file has another content")
	}
	if content, err := os.ReadFile(outside); err != nil || string(content) != "mine" {
		t.Errorf("a link was followed: %q, %v", content, err)
	}
	kept := "keymill: warning: " + filepath.Join(w.dir, "b.pem") + " was changed by hand, so it is not removed; its key is no longer published: remove it\n"
	again := func(name string) string {
		return "keymill: warning: " + filepath.Join(w.dir, name) + " was changed by hand; it has the published key again\n"
	}
	if got := w.errs.String(); got != again("a.pem")+again("c.pem")+kept {
		t.Errorf("standard error:\n%s", got)
	}
	for range 2 {
		if err := w.export(PEM, setOf(t, "a", "c")); err != nil || w.errs.String() != kept {
			t.Errorf("later: %v\n%s", err, w.errs.String())
		}
	}
	if err := os.Remove(filepath.Join(w.dir, "b.pem")); err != nil {
		t.Fatal(err)
	}
	if err := w.export(PEM, setOf(t, "a", "c")); err != nil || w.errs.Len() > 0 {
		t.Errorf("after it was removed: %v, %s", err, w.errs.String())
	}
	if strings.Contains(w.read(manifestName), "b.pem") {
		t.Error("the manifest still has a file that is gone")
	}
}

// TestADamagedManifestIsAnError: nothing is guessed, and a name in it never leads out of the directory.
func TestADamagedManifestIsAnError(t *testing.T) {
	for _, text := range []string{"", "{", `{"format":"pem","files":{"../note":["` + digest([]byte("mine")) + `"]}}`, `{"format":"pem","files":{".note":[]}}`, `{"format":"pem","files":{"":[]}}`, `[]`} {
		w := newWorld(t)
		w.changes("a")
		note := filepath.Join(filepath.Dir(w.dir), "note")
		if err := os.WriteFile(note, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.write(manifestName, text)
		err := w.export(PEM, setOf(t, "b"))
		if err == nil || !strings.HasPrefix(err.Error(), filepath.Join(w.dir, manifestName)+" is damaged") {
			t.Errorf("%q: %v", text, err)
		}
		w.has("a.pem")
		if _, err := os.Stat(note); err != nil {
			t.Error(err)
		}
	}
}

// TestADirectoryHasOneExport: two with different flags would remove each other's keys.
func TestADirectoryHasOneExport(t *testing.T) {
	w := newWorld(t)
	w.changes("a")
	if err := w.export(JWKS, setOf(t, "a")); err == nil || err.Error() != w.dir+" has an export with --format pem, not with --format jwks" {
		t.Error(err)
	}
	e := Export{Source: fixed{set: setOf(t, "a")}.source(), Format: PEM, Alg: "EdDSA", Dir: w.dir, Out: &w.out, Errs: &w.errs}
	if err := e.Run(t.Context()); err == nil || err.Error() != w.dir+" has an export with --format pem, not with --format pem --alg EdDSA" {
		t.Error(err)
	}
	w.has("a.pem")
}

// TestALockedDirectoryIsWaitedFor, but not for ever.
func TestALockedDirectoryIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.changes("a")
	d, err := open(t.Context(), w.dir)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, d.close)
	w.changes("b")
}

// TestAFullDiskLosesNoKey: each file is whole, the old keys stay, no other file is left, and the next run ends it.
func TestAFullDiskLosesNoKey(t *testing.T) {
	terminaltest.NeedRoot(t)
	w := newWorld(t)
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mount := func(flags uintptr, size string) {
		t.Helper()
		if err := syscall.Mount("keymill-test", w.dir, "tmpfs", flags, "mode=755,size="+size); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip("cannot mount a small disk: ", err)
		}
	}
	mount(0, "24k") // six pages: the manifest twice, and four keys
	defer syscall.Unmount(w.dir, syscall.MNT_DETACH)
	w.changes("a", "b")
	err := w.export(PEM, setOf(t, "b", "c", "d", "e", "f"))
	if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(terminal.HintOf(err), "free space on the disk of "+w.dir) {
		t.Fatalf("%v", err)
	}
	for _, name := range files(t, w.dir) {
		kid, isKey := strings.CutSuffix(name, ".pem")
		if isKey && w.read(name) != pemOf(t, kid) || !isKey && name != manifestName {
			t.Errorf("after the disk was full there is %s: %q", name, w.read(name))
		}
	}
	if w.read("a.pem") == "" || w.read("b.pem") == "" {
		t.Error("a key was removed")
	}
	mount(syscall.MS_REMOUNT, "1m")
	w.changes("b", "c", "d", "e", "f")
	w.has("b.pem", "c.pem", "d.pem", "e.pem", "f.pem")
}

// A closed writer refuses every write, as a pipe without a reader and a full disk do.
type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("closed") }

// TestAChangeThatCouldNotBePrintedIsReportedAgain: the script got another exit code than 10 and has not
// reloaded anything, so the next export must say that there is a change.
func TestAChangeThatCouldNotBePrintedIsReportedAgain(t *testing.T) {
	w := newWorld(t)
	w.changes("a")
	for range 2 {
		e := Export{Source: fixed{set: setOf(t, "b")}.source(), Format: PEM, Dir: w.dir, Out: closed{}, Errs: &w.errs}
		if err := e.Run(t.Context()); err == nil || errors.Is(err, Changed) {
			t.Errorf("without an output: %v, want the error of the output", err)
		}
		w.has("b.pem")
	}
	w.changes("b")
	if err := w.export(PEM, setOf(t, "b")); err != nil {
		t.Errorf("after it was printed: %v", err)
	}
}

// TestTwoExportsCanMakeTheDirectory: the one that comes second uses it, with all of its checks.
func TestTwoExportsCanMakeTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	for range 2 {
		if err := create(dir); err != nil {
			t.Fatal(err)
		}
	}
}
