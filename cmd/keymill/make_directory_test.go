package main

import (
	"io/fs"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestADirectoryThatTheServersUserCannotMakeIsMadeByRoot: the hint leaves the directory above as it is, which
// may be /var/lib.
func TestADirectoryThatTheServersUserCannotMakeIsMadeByRoot(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	above := map[string]struct {
		uid, gid int
		mode     fs.FileMode
	}{"root's": {0, 0, 0o755}, "another user's": {1002, 1002, 0o711}, "the group's": {0, 1001, 0o750}}
	for name, dir := range above {
		for _, args := range [][]string{{"init"}, {"serve", "--init"}, {"serve", "--dev"}} {
			p := newPlace(t)
			p.runAs(syscall.Credential{Uid: 1001, Gid: 1001})
			p.data = filepath.Join(p.dir, "var", "my data")
			if err := os.Mkdir(filepath.Dir(p.data), 0o755); err != nil {
				t.Fatal(err)
			}
			p.give(filepath.Dir(p.data), dir.uid, dir.gid, dir.mode)
			if slices.Contains(args, "serve") {
				args = append(args, "--listen", "127.0.0.1:0", "--issuer", "http://127.0.0.1:1")
			}
			env := append(p.env(), "KEYMILL_KEYS_ALGORITHMS=EdDSA")
			if slices.Contains(args, "--dev") {
				env = environment("KEYMILL_DATA=" + p.data)
			}
			_, errs, code := p.runWith(env, args...)
			_, hint, _ := strings.Cut(errs, "\n  hint: ")
			if code != 1 || strings.TrimSpace(hint) != "install -d -m 700 -o 1001 -g 1001 '"+p.data+"'" {
				t.Errorf("%s, %v: code %d, %s", name, args, code, errs)
				continue
			}
			if out, err := exec.Command("sh", "-c", hint).CombinedOutput(); err != nil {
				t.Errorf("%s, %v: %v, %s", name, args, err, out)
			}
			if _, errs, code := p.run("init"); code != 0 {
				t.Errorf("%s, %v: after the hint: code %d, %s", name, args, code, errs)
			}
		}
	}
}

// TestADirectoryOfOthersIsNeverGivenToTheServer: doctor as root must not advise to give it /etc because the
// mark is to lie there.
func TestADirectoryOfOthersIsNeverGivenToTheServer(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for name, tt := range map[string]struct {
		holds    []string // directories in it
		uid, gid int
		mode     fs.FileMode
		want     string // D is the directory
	}{
		"root's, with others":        {[]string{"other"}, 0, 0, 0o755, "install -d -m 700 -o 1001 -g 1001 D/keymill-files"},
		"the group's, with others":   {[]string{"other"}, 0, 1001, 0o750, "install -d -m 700 -o 1001 -g 1001 D/keymill-files"},
		"one that is not to be read": {[]string{"other"}, 0, 0, 0o711, "install -d -m 700 -o 1001 -g 1001 D/keymill-files"},
		"the root of a volume":       {[]string{"lost+found"}, 0, 0, 0o755, "chown 1001 D"},
		"root's, for the mark alone": {nil, 0, 0, 0o755, "chown 1001 D"},
	} {
		p := newPlace(t)
		p.runAs(syscall.Credential{Uid: 1001, Gid: 1001})
		if _, errs, code := p.run("init"); code != 0 {
			t.Fatal(errs)
		}
		dir := filepath.Join(p.dir, "marks")
		for _, path := range append([]string{""}, tt.holds...) {
			if err := os.Mkdir(filepath.Join(dir, path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		p.give(dir, tt.uid, tt.gid, tt.mode)
		p.as = nil
		checks, _ := p.diagnosisWith(append(p.env(), "KEYMILL_STORE_MARK_FILE="+filepath.Join(dir, "k.mark")))
		if got := checks["access"]; got.OK || !strings.Contains(got.Detail, strings.ReplaceAll(tt.want, "D", dir)) || tt.holds != nil && tt.holds[0] == "other" && strings.Contains(got.Detail, "chown") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
