package main

import (
	"fmt"
	"io/fs"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// serversPlace returns a place with a store of the user 1001, and a configuration that only the group of that
// user can read. Doctor runs there as root.
func serversPlace(t *testing.T) *place {
	t.Helper()
	terminaltest.NeedRoot(t)
	p := newPlace(t)
	p.runAs(syscall.Credential{Uid: 1001, Gid: 1001})
	p.data = filepath.Join(p.dir, "var", "data")
	if err := os.Mkdir(filepath.Dir(p.data), 0o755); err != nil {
		t.Fatal(err)
	}
	p.give(filepath.Dir(p.data), 1001, 1001, 0o755)
	p.configureFile("")
	c := p.serveOnce()
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Fatalf("code %d", code)
	}
	return p
}

// configureFile writes keymill.yaml of a server with one ring.
func (p *place) configureFile(more string) {
	p.t.Helper()
	path := filepath.Join(p.dir, "keymill.yaml")
	text := fmt.Sprintf("data: %s\nissuer: %s\nlisten: 127.0.0.1:0\nkeys: {algorithms: [EdDSA]}\nmaster_key_file: %s\n%s",
		p.data, testIssuer, filepath.Join(p.dir, "master.key"), more)
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		p.t.Fatal(err)
	}
	p.give(path, 0, 1001, 0o640)
}

// doctorAsRoot returns the findings "access", and whether all checks passed.
func (p *place) doctorAsRoot() (access []string, ok bool) {
	p.t.Helper()
	server := p.as
	p.as = nil
	defer func() { p.as = server }()
	out, errs, code := p.runWith(environment(), "doctor", "--config", filepath.Join(p.dir, "keymill.yaml"))
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[1] == "access" {
			access = append(access, strings.TrimSpace(line))
		}
	}
	if errs != "" {
		p.t.Errorf("stderr: %s", errs)
	}
	return access, code == 0
}

// chattr sets or removes the attributes of a file that chattr(1) calls i and a.
func chattr(t *testing.T, path string, set uint32) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND)|set))
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("with CI set this test must run: the file system has no attributes: ", err)
		}
		t.Skip("this file system has no attributes: ", err)
	}
}

// spoiledAccess has what keeps the server's user from its files, and the line that mends it. D is the data
// directory, P the directory above it.
func spoiledAccess() map[string]struct {
	spoil func(p *place)
	mend  string
} {
	own := func(name string, uid int, mode fs.FileMode) func(p *place) {
		return func(p *place) { p.give(filepath.Join(p.dir, name), uid, uid, mode) }
	}
	return map[string]struct {
		spoil func(p *place)
		mend  string
	}{
		"root's store":                       {own("var/data/keymill.db", 0, 0o600), "chown 1001 D/keymill.db"},
		"root's store, open to everyone":     {own("var/data/keymill.db", 0, 0o666), "chown 1001 D/keymill.db"},
		"another user's store, without mode": {own("var/data/keymill.db", 1002, 0), "chown 1001 D/keymill.db; chmod u+rw D/keymill.db"},
		"root's mark":                        {own("var/data/keymill.mark", 0, 0o600), "chown 1001 D/keymill.mark"},
		"root's mark, to read":               {own("var/data/keymill.mark", 0, 0o644), "chown 1001 D/keymill.mark"},
		"a mark that cannot be written":      {own("var/data/keymill.mark", 1001, 0o400), "chmod u+rw D/keymill.mark"},
		"root's lock":                        {own("var/data/lock", 0, 0o600), "chown 1001 D/lock"},
		"a store that cannot be written":     {own("var/data/keymill.db", 1001, 0o400), "chmod u+rw D/keymill.db"},
		"a directory that cannot be written": {own("var/data", 1001, 0o500), "chmod u+rwx D"},
		"root's directory of the socket": {func(p *place) {
			dir := filepath.Join(p.dir, "socket")
			if err := os.Mkdir(dir, 0o755); err != nil {
				p.t.Fatal(err)
			}
			p.configureFile("verify: {listen: 'unix:" + dir + "/s'}\n")
		}, "chown 1001 P/socket"},
		"root's master key":                  {own("master.key", 0, 0o600), "chown 1001 P/master.key"},
		"a master key that cannot be read":   {own("master.key", 1001, 0o200), "chmod u+r P/master.key"},
		"root's configuration":               {own("keymill.yaml", 0, 0o600), "chgrp 1001 P/keymill.yaml; chmod g+r P/keymill.yaml"},
		"a directory above":                  {own("var", 0, 0o700), "chmod o+x P/var"},
		"a store that cannot be changed":     {func(p *place) { p.protect("keymill.db", unix.STATX_ATTR_IMMUTABLE) }, "chattr -i -a D/keymill.db"},
		"a mark that only grows":             {func(p *place) { p.protect("keymill.mark", unix.STATX_ATTR_APPEND) }, "chattr -i -a D/keymill.mark"},
		"a directory that cannot be changed": {func(p *place) { p.protect("", unix.STATX_ATTR_IMMUTABLE) }, "chattr -i -a D"},
	}
}

// protect sets an attribute of a file in the data directory until the test ends.
func (p *place) protect(name string, attribute uint32) {
	p.t.Helper()
	t := p.t.(*testing.T)
	chattr(t, p.at(name), attribute)
	t.Cleanup(func() { chattr(t, p.at(name), 0) })
}

// TestDoctorAsRootFindsWhatTheServersUserCannotOpen, changes nothing, and shows the line that mends it.
func TestDoctorAsRootFindsWhatTheServersUserCannotOpen(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for name, tt := range spoiledAccess() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serversPlace(t)
			if access, ok := p.doctorAsRoot(); !ok || len(access) != 1 || !strings.HasPrefix(access[0], "ok") {
				t.Fatalf("before: %q", access)
			}
			tt.spoil(p)
			mend := strings.NewReplacer("D", p.data, "P", p.dir).Replace(tt.mend)
			before := snapshot(t, p.dir)
			access, ok := p.doctorAsRoot()
			if ok || len(access) != 1 || !strings.HasSuffix(access[0], "; type: "+mend) || !strings.Contains(access[0], "uid 1001") {
				t.Errorf("doctor: %q, want %s", access, mend)
			}
			if after := snapshot(t, p.dir); after != before {
				t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
			}
			if err := exec.Command("sh", "-c", mend).Run(); err != nil {
				t.Errorf("%s: %v", mend, err)
			}
			if access, ok := p.doctorAsRoot(); !ok {
				t.Errorf("after %s: %q", mend, access)
			}
		})
	}
}

// TestAStartThatMayNotOpenAFileSaysWhoseItIs: the file, its owner and mode, the user of the process, and the line
// that mends it.
func TestAStartThatMayNotOpenAFileSaysWhoseItIs(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for name, tt := range spoiledAccess() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serversPlace(t)
			tt.spoil(p)
			mend := strings.NewReplacer("D", p.data, "P", p.dir).Replace(tt.mend)
			file := mend[strings.LastIndexByte(mend, ' ')+1:]
			_, errs, code := p.runWith(environment(), "serve", "--config", filepath.Join(p.dir, "keymill.yaml"))
			line, hint, _ := strings.Cut(errs, "\n  hint: ")
			if code != 1 || !strings.HasPrefix(hint, mend) || !strings.Contains(line, file) || !strings.HasSuffix(line, " runs as uid 1001") ||
				!strings.Contains(line, " belongs to uid ") && !strings.Contains(line, " is protected from changes") {
				t.Errorf("code %d\n%swant %s", code, errs, mend)
			}
		})
	}
}

// TestDoctorFindsAFileThatIsMountedReadOnly, such as a single file of a volume. A whole directory is a copy that
// doctor examines, see TestDoctorExaminesAReadOnlyFileSystem.
func TestDoctorFindsAFileThatIsMountedReadOnly(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for _, name := range []string{"keymill.db", "keymill.mark"} {
		p := serversPlace(t)
		path := p.at(name)
		if err := syscall.Mount(path, path, "", syscall.MS_BIND, ""); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal("with CI set this test must run: cannot mount here: ", err)
			}
			t.Skip("cannot mount here: ", err)
		}
		t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
		if err := syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		const want = "is on a file system that is mounted read-only"
		if access, ok := p.doctorAsRoot(); ok || len(access) != 1 || !strings.Contains(access[0], want) || !strings.HasSuffix(access[0], "findmnt -T "+path) {
			t.Errorf("%s: %q", name, access)
		}
		if _, errs, code := p.runWith(environment(), "serve", "--config", filepath.Join(p.dir, "keymill.yaml")); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: code %d, %s", name, code, errs)
		}
	}
}

// TestDoctorKnowsTheServersUserOnAVolume that belongs to another user and that a group can write.
func TestDoctorKnowsTheServersUserOnAVolume(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for name, tt := range map[string]struct {
		uid  int
		mode fs.FileMode
	}{
		"root's":            {0, fs.ModeSetgid | 0o775},
		"root's, sticky":    {0, fs.ModeSticky | 0o770},
		"another user's":    {1002, fs.ModeSetgid | 0o770},
		"the server's user": {1001, 0o770},
	} {
		p := volume(t, tt.uid, 2000, tt.mode)
		p.configureFile("")
		c := p.serveOnce()
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
		p.give(p.data, tt.uid, 2000, tt.mode)
		if access, _ := p.doctorAsRoot(); len(access) != 1 || !strings.HasPrefix(access[0], "ok") || !strings.Contains(access[0], "uid 1001") {
			t.Errorf("%s: %q", name, access)
		}
		p.give(p.store(), 0, 0, 0o600)
		if access, ok := p.doctorAsRoot(); ok || len(access) != 1 || !strings.HasSuffix(access[0], "; type: chown 1001 "+p.store()) {
			t.Errorf("%s, root's store: %q", name, access)
		}
	}
}

// TestAVariableOfRootsShellNamesAFileForDoctorAlone: the master key may be readable for root only. Doctor finds
// no fault in that, and changes the key. A file that the configuration or the unit names is the server's.
func TestAVariableOfRootsShellNamesAFileForDoctorAlone(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for name, tt := range map[string]struct {
		server string // where the server has the file with the key
		ok     bool
	}{
		"nowhere":                     {"", true},
		"the configuration":           {"file", false},
		"the unit":                    {"Environment=KEYMILL_MASTER_KEY_FILE=", false},
		"a credential of the unit":    {"LoadCredential=keymill-master-key:", true},
		"another setting of the unit": {"Environment=A=", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serversPlace(t)
			key, config := filepath.Join(p.dir, "master.key"), filepath.Join(p.dir, "keymill.yaml")
			env := environment()
			if tt.server != "file" {
				p.replaceInFile(config, "master_key_file: "+key+"\n", "")
				env = append(env, "KEYMILL_MASTER_KEY_FILE="+key)
			}
			if strings.Contains(tt.server, "=") {
				env = append(p.unit(tt.server+key), "KEYMILL_MASTER_KEY_FILE="+key)
			}
			p.give(key, 0, 0, 0o600)
			p.as = nil
			out, errs, code := p.runWith(env, "doctor", "--config", config)
			if (code == 0) != tt.ok || !tt.ok && !strings.Contains(out, "type: chown 1001 "+key) {
				t.Errorf("code %d\n%s%s", code, out, errs)
			}
			out, errs, code = p.runWith(env, "doctor", "--config", config, "--new-master-key-file", p.writeKey("new.key", testKey("n")))
			if (code == 0) != tt.ok {
				t.Errorf("a new key: code %d\n%s%s", code, out, errs)
			}
		})
	}
}

func (p *place) replaceInFile(path, old, with string) {
	p.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(b), old) {
		p.t.Fatalf("%s: %v", b, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, with, 1)), 0o640); err != nil {
		p.t.Fatal(err)
	}
}
