package main

import (
	"fmt"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOneSignalEndsACommandThatWaitsForAPipe: timeout(1), systemd and docker stop send one. Nothing of the store is
// left in a file.
func TestOneSignalEndsACommandThatWaitsForAPipe(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	server, file := p.withBackup(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	drill, temp, fifo := filepath.Join(p.dir, "drill"), filepath.Join(p.dir, "tmp"), filepath.Join(p.dir, "fifo")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	writes := func(dir string) func() bool { // the command has begun a file there
		return func() bool {
			found := false
			filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
				found = found || strings.Contains(path, "keymill.db.")
				return nil
			})
			return found
		}
	}
	half, silent := whole[:len(whole)/2], []byte(nil)
	for _, tt := range []struct {
		args   []string
		sent   []byte
		waits  func() bool
		wanted string
	}{
		{[]string{"restore", "-", "--data", drill}, half, writes(drill), "keymill: interrupted; " + drill + " is as it was\n"},
		{[]string{"restore", fifo, "--data", drill}, half, writes(drill), "keymill: interrupted; " + drill + " is as it was\n"},
		{[]string{"restore", fifo, "--data", drill}, silent, nil, "keymill: interrupted; " + drill + " is as it was\n"},
		{[]string{"backup", "--check", "-"}, half, writes(temp), "keymill: interrupted\n"},
		{[]string{"backup", "--check", fifo}, half, writes(temp), "keymill: interrupted\n"},
	} {
		c := &child{t: t, cmd: exec.Command(p.binary, tt.args...), out: &terminaltest.Buffer{}, errs: &terminaltest.Buffer{}, ended: make(chan struct{})}
		c.cmd.Env, c.cmd.Dir = append(p.env(), "TMPDIR="+temp), p.dir
		c.cmd.Stdout, c.cmd.Stderr = c.out, c.errs
		in, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c.cmd.Stdin = in
		p.launch(c)
		if strings.Contains(fmt.Sprint(tt.args), fifo) {
			write.Close()
			// It can be opened so once the command has it, which is after the command handles signals.
			if !eventually(failsafe, func() bool {
				fd, err := syscall.Open(fifo, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
				write = os.NewFile(uintptr(fd), fifo)
				return err == nil
			}) {
				t.Fatalf("%v does not open the FIFO", tt.args)
			}
		}
		if _, err := write.Write(tt.sent); err != nil {
			t.Fatal(err)
		}
		if tt.waits != nil && !eventually(failsafe, tt.waits) {
			t.Fatalf("%v does not begin: %s", tt.args, c.errs)
		}
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 1 || c.errs.String() != tt.wanted {
			t.Errorf("%v: code %d\n%s", tt.args, code, c.errs)
		}
		write.Close()
		in.Close()
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("%v left %v, %v", tt.args, left, err)
		}
		if _, err := os.Stat(drill); !os.IsNotExist(err) {
			t.Errorf("%v left the data directory (%v)", tt.args, err)
		}
	}
	p.interruptBackup(t)
	if status := server.ready(); status != 200 {
		t.Errorf("readyz answers %d", status)
	}
}

// interruptBackup ends a backup to a pipe that no program reads.
func (p *place) interruptBackup(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	size, err := unix.FcntlInt(in.Fd(), unix.F_SETPIPE_SZ, 4096)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.Command(p.binary, "backup", "-"), out: &terminaltest.Buffer{}, errs: &terminaltest.Buffer{}, ended: make(chan struct{})}
	c.cmd.Env, c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = p.env(), p.dir, in, c.errs
	p.launch(c)
	in.Close()
	if !eventually(failsafe, func() bool {
		filled, err := unix.IoctlGetInt(int(out.Fd()), unix.TIOCINQ)
		return err == nil && filled == size
	}) {
		t.Fatal("the pipe is not filled")
	}
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 1 || c.errs.String() != "keymill: interrupted; the backup on standard output is not whole\n" {
		t.Errorf("backup -: code %d\n%s", code, c.errs)
	}
}

// TestABackupFindsTheServerOfItsConfiguration, from a flag or a variable. A data directory that is named goes before the
// variable.
func TestABackupFindsTheServerOfItsConfiguration(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	file, other := filepath.Join(p.dir, "server.yaml"), filepath.Join(p.dir, "other.yaml")
	for path, data := range map[string]string{file: p.data, other: filepath.Join(p.dir, "none")} {
		if err := os.WriteFile(path, []byte("data: "+data+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n, tt := range []struct {
		variable string
		args     []string
		ok       bool
	}{
		{"KEYMILL_CONFIG=" + file, nil, true},
		{"", []string{"--config", file}, true},
		{"KEYMILL_CONFIG=" + other, []string{"--config", file}, true},
		{"KEYMILL_CONFIG=" + other, []string{"--data", p.data}, true},
		{"KEYMILL_CONFIG=" + other, nil, false},
		{"", nil, false},
	} {
		out, errs, code := p.runWith(environment(tt.variable), append([]string{"backup", filepath.Join(p.dir, fmt.Sprint("b", n))}, tt.args...)...)
		if (code == 0) != tt.ok {
			t.Errorf("%s %v: code %d\n%s%s", tt.variable, tt.args, code, out, errs)
		}
	}
}

// TestARestoreByAnotherUserNamesTheServersUser: it suggests no other directory, where it would make a new store.
func TestARestoreByAnotherUserNamesTheServersUser(t *testing.T) {
	t.Parallel()
	terminaltest.NeedRoot(t)
	p := newPlace(t)
	p.unprivileged()
	p.start()
	file := filepath.Join(p.dir, "backup")
	p.must(nil, "backup", file)
	p.as = &syscall.Credential{Uid: 1234, Gid: 1234}
	for _, path := range []string{p.dir, file, filepath.Join(p.dir, "master.key")} {
		if err := os.Chown(path, 1234, 1234); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"restore", file}, {"restore", "--replace", file}} {
		_, errs, code := p.run(args...)
		if code != 1 || !strings.HasPrefix(errs, "keymill: data directory "+p.data+": permission denied for uid 1234; it belongs to uid ") ||
			!strings.HasSuffix(errs, "\n  hint: run it as the server's user, or as root\n") {
			t.Errorf("%v: code %d\n%s", args, code, errs)
		}
	}
}

// TestACheckOfABackupNamesNoDirectory: the one where it was checked is gone.
func TestACheckOfABackupNamesNoDirectory(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, file := p.withBackup(t)
	if out := p.must(nil, "backup", "--check", "--json", file); strings.Contains(out, `"data"`) {
		t.Errorf("%s", out)
	}
	if out := p.must(nil, "backup", "--check", file); strings.Contains(out, " 1 changes") || !strings.Contains(out, " records, then ") {
		t.Errorf("%s", out)
	}
}
