package main

import (
	"fmt"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A manager hears what a server tells systemd.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(p *place, t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(p.dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn, path}
}

// next returns the next message that is not of the watchdog, or that is.
func (m *manager) next(watchdog bool) string {
	m.t.Helper()
	for {
		m.conn.SetReadDeadline(time.Now().Add(failsafe))
		text := make([]byte, 4096)
		n, err := m.conn.Read(text)
		if err != nil {
			m.t.Fatal(err)
		}
		if got := string(text[:n]); (got == "WATCHDOG=1") == watchdog {
			return got
		}
	}
}

func (m *manager) expect(first, contains string) {
	m.t.Helper()
	if got := m.next(false); !strings.HasPrefix(got, first+"\n") || !strings.Contains(got, contains) {
		m.t.Errorf("%q, want %s and %s", got, first, contains)
	}
}

// TestSystemdHearsOfReadyReloadAndStop: READY comes when both listeners answer, and again after a reload, also after one
// that changed nothing.
func TestSystemdHearsOfReadyReloadAndStop(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	m := newManager(p, t)
	c := p.startWith(append(p.env(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=200000"), "serve", "--config", p.configure(""))
	m.expect("READY=1", "STATUS=serving http on 127.0.0.1:")
	if status := c.ready(); status != http.StatusOK {
		t.Errorf("readyz answers %d", status)
	}
	p.must(nil, "key", "list")
	for _, lines := range []string{"log: {level: debug}\n", "nonsense\n"} {
		p.configure(lines)
		c.signal(syscall.SIGHUP)
		m.expect("RELOADING=1", "MONOTONIC_USEC=")
		m.expect("READY=1", "STATUS=serving")
	}
	for range 3 {
		m.next(true)
	}
	c.signal(syscall.SIGTERM)
	m.expect("STOPPING=1", "STATUS=stopping")
	if code := c.wait(failsafe); code != 0 || strings.Contains(c.errs.String(), "cannot notify systemd") {
		t.Errorf("exit code %d", code)
	}
}

// TestAStoreThatWaitsForItsDiskDoesNotEndTheServer: the watchdog goes on while a commit waits.
func TestAStoreThatWaitsForItsDiskDoesNotEndTheServer(t *testing.T) {
	t.Parallel()
	strace := needStrace(t)
	p := newPlace(t)
	m := newManager(p, t)
	c := p.startWith(append(p.env(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=1000000"), p.serveArgs()...)
	tracer := exec.Command(strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=fdatasync,fsync",
		"-e", "inject=fdatasync,fsync:delay_enter=600000000", "-p", fmt.Sprint(c.cmd.Process.Pid))
	tracer.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { tracer.Process.Kill(); tracer.Wait() }()
	// Once the key set is served and an administrator's change is not answered, a commit waits.
	change := exec.Command(p.binary, "audience", "add", "orders", "--alg", "EdDSA")
	change.Env = p.env()
	change.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if !eventually(failsafe, func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
		return err == nil && strings.Contains(string(status), fmt.Sprintf("TracerPid:\t%d\n", tracer.Process.Pid))
	}) {
		t.Fatal("strace did not attach")
	}
	if err := change.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { change.Process.Kill(); change.Wait() }()
	for range 5 {
		m.next(true)
	}
	c.cmd.Process.Kill()
}

// passing starts a server through a shell that gives it the files as systemd does.
func (p *place) passing(t *testing.T, args []string, files ...*os.File) *child {
	t.Helper()
	c := &child{t: t, out: &terminaltest.Buffer{}, errs: &terminaltest.Buffer{}, ended: make(chan struct{})}
	script := fmt.Sprintf(`export LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=http; exec "$@"`, len(files))
	c.cmd = exec.Command("/bin/sh", append([]string{"-c", script, "sh", p.binary}, args...)...)
	c.cmd.Env, c.cmd.Dir, c.cmd.ExtraFiles = p.env(), p.dir, files
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.errs
	p.launch(c)
	return c
}

// TestASocketOfSystemdTakesThePlaceOfListen: it stays open when the server restarts, so a connection of that time
// is served by the next one.
func TestASocketOfSystemdTakesThePlaceOfListen(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.must(nil, "init")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	url := "http://" + l.Addr().String() + "/readyz"
	client := &http.Client{Timeout: failsafe, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func() {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Errorf("%d", resp.StatusCode)
		}
	}
	args := p.serveArgs()
	args[4] = "127.0.0.1:1" // a port that only root may take, and that is not taken
	for range 2 {
		c := p.passing(t, args, f)
		get() // waits in the backlog until the server accepts
		c.logged(`msg="systemd has opened the public address; the setting listen is not used" listen=`+l.Addr().String(), 1)
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

// TestAnotherKindOfSocketIsOneClearError, and the start changes nothing.
func TestAnotherKindOfSocketIsOneClearError(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.must(nil, "init")
	before := snapshot(t, p.data)
	unix, err := net.Listen("unix", filepath.Join(p.dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	f, err := unix.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for want, files := range map[string][]*os.File{"a Unix socket": {f}, "2 sockets": {f, f}} {
		c := p.passing(t, p.serveArgs(), files...)
		code := c.wait(failsafe)
		log := c.errs.String()
		if code != 1 || !strings.Contains(log, "keymill: systemd has passed "+want) || !strings.Contains(log, "hint: the unit .socket must have one ListenStream=") {
			t.Errorf("%s: code %d\n%s", want, code, log)
		}
	}
	if snapshot(t, p.data) != before {
		t.Error("a start that failed changed the data directory")
	}
}
