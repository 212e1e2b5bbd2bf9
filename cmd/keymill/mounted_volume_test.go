package main

import (
	"fmt"
	"io"
	"io/fs"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// give gives a file or directory to another user.
func (p *place) give(path string, uid, gid int, mode fs.FileMode) {
	p.t.Helper()
	for _, err := range []error{os.Chown(path, uid, gid), os.Chmod(path, mode)} {
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

// volume returns a place whose data directory is there with this owner and mode. The program runs as
// the user 1001 with the group 2000.
func volume(t *testing.T, uid, gid int, mode fs.FileMode) *place {
	t.Helper()
	p := newPlace(t)
	p.runAs(containerUser())
	if err := os.Mkdir(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	p.give(p.data, uid, gid, mode)
	p.give(p.dir, 1001, 1001, 0o755) // as a mount point, which everyone can reach
	return p
}

// serveOnce starts a server with one ring, which is fast.
func (p *place) serveOnce() *child {
	p.t.Helper()
	return p.startWith(append(p.env(), "KEYMILL_KEYS_ALGORITHMS=EdDSA"), p.serveArgs()...)
}

func (p *place) checkMode(name string, uid uint32, want fs.FileMode) {
	p.t.Helper()
	info, err := os.Lstat(filepath.Join(p.data, name))
	if err != nil {
		p.t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t); got.Uid != uid || info.Mode()&^fs.ModeType != want {
		p.t.Errorf("%q belongs to uid %d with the mode %v, want uid %d and %v", name, got.Uid, info.Mode(), uid, want)
	}
}

// TestAVolumeOfAnotherUserIsUsedAsItIs: the directory keeps its mode, files are private, one line of
// the log warns, and commands work for the server's user and for root.
func TestAVolumeOfAnotherUserIsUsedAsItIs(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for name, tt := range map[string]struct {
		uid, gid int
		mode     fs.FileMode
		warns    string
	}{
		"root's with fsGroup":          {0, 2000, fs.ModeSetgid | 0o775, `mode=2775 uid=0 gid=2000`},
		"root's, closed to others":     {0, 2000, 0o770, `mode=0770 uid=0 gid=2000`},
		"another user's":               {1002, 2000, fs.ModeSetgid | 0o770, `mode=2770 uid=1002 gid=2000`},
		"another user's, with our own": {1002, 1001, 0o755 | 0o020, `mode=0775 uid=1002 gid=1001`},
		"root's, files of others stay": {0, 2000, fs.ModeSticky | 0o770, `mode=1770 uid=0 gid=2000`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := volume(t, tt.uid, tt.gid, tt.mode)
			for round := range 2 {
				c := p.serveOnce()
				p.checkMode("", uint32(tt.uid), tt.mode)
				for _, file := range []string{"keymill.db", "lock", "admin.sock"} {
					p.checkMode(file, 1001, 0o600)
				}
				// One line for the directory, and one for each file that the mount opened.
				log := c.errs.String()
				files := strings.Count(log, `mode=0660 access="group 2000: read, write"`)
				if strings.Count(log, "level=WARN") != 1+files || files != 2*round || !strings.Contains(log, tt.warns) {
					t.Errorf("the log does not warn once of %s and of each file:\n%s", tt.warns, log)
				}
				for _, as := range []*syscall.Credential{p.as, nil} {
					p.as = as
					p.must(nil, "key", "list")
				}
				user := containerUser()
				p.as = &user
				c.signal(syscall.SIGTERM)
				if code := c.wait(failsafe); code != 0 {
					t.Errorf("code %d", code)
				}
				// At the next mount, Kubernetes lets the volume's group write every file.
				for _, file := range []string{"keymill.db", "lock"} {
					p.give(filepath.Join(p.data, file), 1001, 2000, 0o660)
				}
			}
		})
	}
}

// TestADirectoryOfOnesOwnIsMadePrivate, and a start that fails gives its mode back.
func TestADirectoryOfOnesOwnIsMadePrivate(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for _, mode := range []fs.FileMode{0o777, fs.ModeSetgid | 0o770, fs.ModeSticky | 0o777, 0o755, 0o701} {
		p := volume(t, 1001, 2000, mode)
		before := snapshot(t, p.dir)
		_, errs, code := p.runWith(append(p.env(), "KEYMILL_WEBHOOK_URL=https://hooks.example", "KEYMILL_SESSION_CLIENT=my app"), p.serveArgs()...)
		if code != 1 {
			t.Errorf("code %d: %s", code, errs)
		}
		p.overwrite("hello") // the store is opened after the mode was changed
		p.give(p.store(), 1001, 2000, 0o600)
		withStore := snapshot(t, p.dir)
		if _, errs, code := p.run(p.serveArgs()...); code != 1 || !strings.Contains(errs, "open store ") {
			t.Errorf("code %d: %s", code, errs)
		}
		if after := snapshot(t, p.dir); after != withStore {
			t.Errorf("the disk changed; before:\n%safter:\n%s", withStore, after)
		}
		os.Remove(p.store())
		if after := snapshot(t, p.dir); after != before {
			t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
		}
		c := p.serveOnce()
		p.checkMode("", 1001, 0o700)
		if log := c.errs.String(); strings.Contains(log, "level=WARN") {
			t.Errorf("a warning:\n%s", log)
		}
	}
}

// TestADirectoryForEveryUserIsRefusedBeforeAnythingIsWritten, and so is the store of another user.
func TestADirectoryForEveryUserIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	const everyUser = "and every user can write in it (mode "
	for name, tt := range map[string]struct {
		uid, gid int
		mode     fs.FileMode
		store    []int // owner, group and mode of a store, if there is one
		want     string
	}{
		"root's":             {0, 2000, fs.ModeSetgid | 0o777, nil, " belongs to uid 0, " + everyUser + "2777)\n  hint: chmod o-w "},
		"root's, as /tmp":    {0, 0, fs.ModeSticky | 0o777, nil, " belongs to uid 0, " + everyUser + "1777)\n  hint: choose another directory: /"},
		"another user's":     {1002, 1002, 0o777, nil, " belongs to uid 1002, " + everyUser + "0777)\n  hint: chmod o-w "},
		"with a store":       {0, 2000, 0o777, []int{1001, 2000, 0o600}, everyUser + "0777)"},
		"root's store":       {0, 2000, fs.ModeSetgid | 0o775, []int{0, 2000, 0o660}, "keymill.db belongs to uid 0, gid 2000 (mode 0660), and the server runs as uid 1001\n  hint: chown 1001 "},
		"store of another":   {1001, 1001, 0o700, []int{1002, 2000, 0o660}, "keymill.db belongs to uid 1002, gid 2000 (mode 0660), and the server runs as uid 1001"},
		"not to read":        {0, 2000, 0o730, nil, "cannot read the data directory: /"},
		"own, not to read":   {1001, 1001, 0o300, nil, "cannot read the data directory: /"},
		"store for everyone": {1001, 1001, 0o755, []int{0, 0, 0o666}, "keymill.db belongs to uid 0, gid 0 (mode 0666), and the server runs as uid 1001"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := volume(t, tt.uid, tt.gid, tt.mode)
			if tt.store != nil {
				p.overwrite("hello")
				p.give(p.store(), tt.store[0], tt.store[1], fs.FileMode(tt.store[2]))
			}
			before := snapshot(t, p.dir)
			out, errs, code := p.run(p.serveArgs()...)
			if code != 1 || out != "" || !strings.HasPrefix(errs, "keymill: ") || !strings.Contains(errs, tt.want) || strings.Count(errs, "\n") > 2 {
				t.Errorf("code %d, stderr\n%swant %s", code, errs, tt.want)
			}
			if after := snapshot(t, p.dir); after != before {
				t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
			}
		})
	}
}

// asMember runs a program as the user 1003 with the group 2000 until the test ends.
func (p *place) asMember(env []string, name string, args ...string) (out *terminaltest.Buffer, ended chan error) {
	p.t.Helper()
	cmd := exec.Command(name, args...)
	out, ended = &terminaltest.Buffer{}, make(chan error, 1)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, p.dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: 1003, Gid: 2000}}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { ended <- cmd.Wait() }()
	p.t.Cleanup(func() { cmd.Process.Kill() })
	return out, ended
}

// listenAs is the program of a user who puts a socket in place of the server's. It prints a line for
// every connection, with what was sent before the other end closed it.
func listenAs(socket string) {
	os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o666)
	}
	for fmt.Println("listening", err); err == nil; {
		var c net.Conn
		if c, err = l.Accept(); err == nil {
			sent, _ := io.ReadAll(c)
			fmt.Printf("received %q\n", sent)
			c.Close()
		}
	}
}

// TestCommandsTalkToTheServerOnly: a member of the volume's group replaces the socket, and perhaps the
// store. Commands of the server's user and of root send nothing there.
func TestCommandsTalkToTheServerOnly(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	user := containerUser()
	for name, tt := range map[string]struct {
		as      *syscall.Credential
		replace string // what else the member does, in the shell
		want    string
	}{
		"server's user": {&user, ":", "keymill.db belongs to uid 1001, and this command runs as uid 1001\n"},
		"root":          {nil, ":", "keymill.db belongs to uid 1001, and this command runs as uid 0\n"},
		"server's user, and the store is replaced": {&user, "mv keymill.db old; touch keymill.db", "keymill.db belongs to uid 1003, and this command runs as uid 1001\n"},
		"root, and the store is gone":              {nil, "rm -f keymill.db", "lock belongs to uid 1001, and this command runs as uid 0\n"},
		"root, and both are gone":                  {nil, "rm -f keymill.db lock", "lock is missing, and this command runs as uid 0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := volume(t, 0, 2000, fs.ModeSetgid|0o775)
			p.serveOnce()
			if out, ended := p.asMember(nil, "/bin/sh", "-ec", "cd data; "+tt.replace); <-ended != nil {
				t.Fatalf("%s: %s", tt.replace, out)
			}
			member, _ := p.asMember([]string{"LISTEN_AS_KEYMILL=" + filepath.Join(p.data, "admin.sock")}, p.binary)
			p.as = tt.as
			lines := 0
			expect := func(line string) {
				t.Helper()
				lines++
				if !eventually(failsafe, func() bool { return strings.Count(member.String(), "\n") >= lines }) || strings.Split(member.String(), "\n")[lines-1] != line {
					t.Fatalf("the listener says\n%swant a line %q", member, line)
				}
			}
			expect("listening <nil>")
			for _, args := range [][]string{{"key", "list"}, {"user", "add", "alice", "--no-password"}, {"session", "revoke", "--all"}} {
				out, errs, code := p.run(args...)
				if code != 1 || out != "" || !strings.HasPrefix(errs, "keymill: uid 1003 listens on "+p.data+"/admin.sock and is not the server: ") || !strings.Contains(errs, tt.want) {
					t.Errorf("%v: code %d, %s%s", args, code, out, errs)
				}
				expect(`received ""`)
			}
			if strings.Contains(tt.want, "keymill.db belongs to uid 1001") { // doctor finds the directory in use
				if out, errs, code := p.run("doctor"); code != 1 || !strings.Contains(errs, "uid 1003 listens on ") {
					t.Errorf("doctor: code %d, %s%s", code, out, errs)
				}
			}
		})
	}
}
