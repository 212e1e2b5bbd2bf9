package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/terminal"
)

// failsafe only bounds a hang.
const failsafe = 2 * time.Minute

// listen makes the socket of a service manager, and sets NOTIFY_SOCKET to it.
func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(failsafe))
	text := make([]byte, 4096)
	n, err := conn.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[:n])
}

// TestTheMessagesAreThoseOfSDNotify, to a socket in the file system and to an abstract one.
func TestTheMessagesAreThoseOfSDNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "n"), "@keymill-test-" + strconv.Itoa(os.Getpid())} {
		conn := listen(t, name)
		m := FromEnvironment()
		for _, tt := range []struct {
			tell func() error
			want string
		}{
			{func() error { return m.Ready("serving\nhttp") }, `READY=1\nSTATUS=serving http`},
			{m.Reloading, `RELOADING=1\nMONOTONIC_USEC=[1-9]\d+\nSTATUS=reading the configuration again`},
			{m.Alive, `WATCHDOG=1`},
			{m.Stopping, `STOPPING=1\nSTATUS=stopping`},
		} {
			if err := tt.tell(); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, conn); !regexp.MustCompile("^" + tt.want + "$").MatchString(got) {
				t.Errorf("%q, want %s", got, tt.want)
			}
		}
	}
}

// TestNoChildGetsTheVariables, whether they were meant for this process or not.
func TestNoChildGetsTheVariables(t *testing.T) {
	all := []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
	for _, name := range all {
		t.Setenv(name, "1")
	}
	m := FromEnvironment()
	for _, name := range all {
		if value, found := os.LookupEnv(name); found {
			t.Errorf("%s=%s is left", name, value)
		}
	}
	if m.sockets != 0 || m.Watchdog() != 0 {
		t.Error("the variables of process 1 were taken for ours")
	}
}

// TestAbsurdVariablesAreHarmless: a great number of sockets is an error at once, a watchdog of a microsecond does not take
// the processor, and one of more years than a time has is none.
func TestAbsurdVariablesAreHarmless(t *testing.T) {
	for _, n := range []string{"2147483647", "9223372036854775807"} {
		t.Setenv("LISTEN_FDS", n)
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		if _, err := FromEnvironment().Listener(); err == nil || !strings.Contains(err.Error(), "passed "+n+" sockets") {
			t.Errorf("%s sockets: %v", n, err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "/none")
	t.Setenv("WATCHDOG_USEC", "9223372036854775807")
	if d := FromEnvironment().Watchdog(); d != 0 {
		t.Errorf("a watchdog of %v", d)
	}
	t.Setenv("NOTIFY_SOCKET", "/none")
	t.Setenv("WATCHDOG_USEC", "1")
	m := FromEnvironment()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		asked := 0
		m.Watch(ctx, func(context.Context) error { asked++; return nil }, func(error) {}, func(error) {})
		if asked < 10 || asked > 200 {
			t.Errorf("asked %d times in a second", asked)
		}
	})
}

// TestWithoutSystemdNothingIsDone, and a socket without a reader is an error, not a hang.
func TestWithoutSystemdNothingIsDone(t *testing.T) {
	for _, name := range []string{"NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"} {
		t.Setenv(name, "")
	}
	for _, m := range []*Manager{nil, FromEnvironment()} {
		l, err := m.Listener()
		if err := errors.Join(err, m.Ready("x"), m.Reloading(), m.Alive(), m.Stopping()); err != nil || l != nil || m.Watchdog() != 0 {
			t.Errorf("%v, %v, %v", l, err, m.Watchdog())
		}
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	if err := FromEnvironment().Ready("x"); err == nil || !strings.Contains(err.Error(), "cannot tell systemd READY=1") {
		t.Errorf("no socket: %v", err)
	}
}

// TestTheWatchdogHearsOnlyOfAServerThatWorks: one that hangs or fails sends nothing, and sends again when it works.
func TestTheWatchdogHearsOnlyOfAServerThatWorks(t *testing.T) {
	conn := listen(t, filepath.Join(t.TempDir(), "n"))
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m := FromEnvironment()
	var state atomic.Int32 // 0 works, 1 fails, 2 hangs
	asked, failed := make(chan int32, 1000), make(chan error, 1000)
	works := func(ctx context.Context) error {
		now := state.Load()
		asked <- now
		switch now {
		case 1:
			return errors.New("the store has failed")
		case 2:
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	worked := func(err error) {
		if err != nil {
			failed <- err
		}
	}
	go func() { ended <- m.Watch(ctx, works, worked, func(error) {}) }()
	for range 3 {
		if got := receive(t, conn); got != "WATCHDOG=1" {
			t.Errorf("%q", got)
		}
	}
	for _, broken := range []int32{1, 2} {
		state.Store(broken)
		for n := range asked {
			if n == broken {
				break
			}
		}
		if err := <-failed; err == nil {
			t.Error("no error")
		}
		for conn.SetReadDeadline(time.Now()); ; { // what was sent before
			if _, err := conn.Read(make([]byte, 64)); err != nil {
				break
			}
		}
		<-failed
		<-failed
		conn.SetReadDeadline(time.Now())
		if n, err := conn.Read(make([]byte, 64)); err == nil {
			t.Errorf("state %d: a message of %d bytes", broken, n)
		}
		state.Store(0)
		if got := receive(t, conn); got != "WATCHDOG=1" {
			t.Errorf("%q", got)
		}
	}
	cancel()
	<-ended
}

// passing returns a Manager that was passed these files.
func passing(t *testing.T, files ...interface{ File() (*os.File, error) }) *Manager {
	t.Helper()
	m := &Manager{sockets: len(files)}
	for _, file := range files {
		f, err := file.File()
		if err != nil {
			t.Fatal(err)
		}
		m.first = int(f.Fd())
		t.Cleanup(func() { f.Close() })
	}
	return m
}

// TestOnlyOneTCPSocketThatListensIsTaken.
func TestOnlyOneTCPSocketThatListensIsTaken(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	conn, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, tt := range []struct {
		m    *Manager
		want string
	}{
		{passing(t, tcp.(*net.TCPListener), tcp.(*net.TCPListener)), "systemd has passed 2 sockets, and the server takes one"},
		{passing(t, unix.(*net.UnixListener)), "systemd has passed a Unix socket"},
		{passing(t, udp.(*net.UDPConn)), "systemd has passed a UDP socket"},
		{passing(t, conn.(*net.TCPConn)), "systemd has passed a connection (Accept=yes)"},
		{&Manager{sockets: 1, first: 999}, "systemd has passed a descriptor that is not open"},
	} {
		l, err := tt.m.Listener()
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(terminal.HintOf(err), "one ListenStream= with a TCP address") {
			t.Errorf("%v, %v, want %s", l, err, tt.want)
		}
	}
	f, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := (&Manager{sockets: 1, first: int(f.Fd())}).Listener()
	if err != nil || l.Addr().String() != tcp.Addr().String() {
		t.Fatalf("%v, %v", l, err)
	}
	l.Close()
}
