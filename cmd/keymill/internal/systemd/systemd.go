// Package systemd speaks the two protocols of systemd that a service needs: sd_notify(3), which tells the
// state of the service, and sd_listen_fds(3), which passes it sockets that systemd has opened.
//
// Both are environment variables and one line of text in a datagram. The client library of CoreOS was not taken: it
// requires the library of D-Bus too, leaves the variables in the environment unless it is asked, and knows
// no RELOADING with its time.
//
// Without systemd the variables are missing, and every method does nothing.
package systemd

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/terminal"
)

// A Manager is the service manager that started this process. A nil Manager is none.
type Manager struct {
	socket   string // of sd_notify; "" if nothing is told
	watchdog time.Duration
	sockets  int // passed to this process
	first    int // descriptor of the first of them
}

// firstSocket is SD_LISTEN_FDS_START.
const firstSocket = 3

// maxSockets bounds the descriptors that are closed for children. More than one is an error of Listener.
const maxSockets = 64

// maxMicroseconds is what a time.Duration holds.
const maxMicroseconds = math.MaxInt64 / int64(time.Microsecond)

// FromEnvironment reads the variables and removes them, so that no child takes them for its own.
func FromEnvironment() *Manager {
	m := &Manager{socket: take("NOTIFY_SOCKET"), first: firstSocket}
	usec, pid := take("WATCHDOG_USEC"), take("WATCHDOG_PID")
	if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 && n <= maxMicroseconds && (pid == "" || isUs(pid)) {
		m.watchdog = time.Duration(n) * time.Microsecond
	}
	count, pid := take("LISTEN_FDS"), take("LISTEN_PID")
	take("LISTEN_FDNAMES")
	if n, err := strconv.Atoi(count); err == nil && n > 0 && isUs(pid) {
		m.sockets = n
		for fd := range min(n, maxSockets) {
			unix.CloseOnExec(m.first + fd)
		}
	}
	return m
}

func take(name string) string {
	value := os.Getenv(name)
	os.Unsetenv(name)
	return value
}

func isUs(pid string) bool { return pid == strconv.Itoa(os.Getpid()) }

// Ready tells that the service serves, also after a reload. status is a short text for systemctl status.
func (m *Manager) Ready(status string) error { return m.tell("READY=1", "STATUS="+status) }

// Reloading tells that a reload has begun. Ready ends it.
func (m *Manager) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	return m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000), "STATUS=reading the configuration again")
}

// Stopping tells that the service ends.
func (m *Manager) Stopping() error { return m.tell("STOPPING=1", "STATUS=stopping") }

// Alive tells that the service still works. systemd ends it if it does not hear that for as long as Watchdog.
func (m *Manager) Alive() error { return m.tell("WATCHDOG=1") }

// Watchdog returns how often Alive must be told at least; 0 if systemd does not wait for it.
func (m *Manager) Watchdog() time.Duration {
	if m == nil || m.socket == "" {
		return 0
	}
	return m.watchdog
}

// patience bounds how long a message waits for systemd to read.
const patience = time.Second

func (m *Manager) tell(lines ...string) error {
	if m == nil || m.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot tell systemd %s: %w", lines[0], err)
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(patience))
	for i, line := range lines {
		lines[i] = strings.ReplaceAll(line, "\n", " ")
	}
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("cannot tell systemd %s: %w", lines[0], err)
	}
	return nil
}

// Listener returns the TCP socket that systemd has passed, or nil if it has passed none. Another socket, and more
// than one, are an error.
func (m *Manager) Listener() (net.Listener, error) {
	if m == nil || m.sockets == 0 {
		return nil, nil
	}
	const hint = "the unit .socket must have one ListenStream= with a TCP address, such as 127.0.0.1:8420"
	if m.sockets > 1 {
		return nil, terminal.WithHint(fmt.Errorf("systemd has passed %d sockets, and the server takes one, for its public address", m.sockets), hint)
	}
	if kind := kindOf(m.first); kind != "" {
		return nil, terminal.WithHint(fmt.Errorf("systemd has passed %s, and the server takes a TCP socket that listens", kind), hint)
	}
	f := os.NewFile(uintptr(m.first), "the socket of systemd")
	defer f.Close()
	l, err := net.FileListener(f) // of a copy of the descriptor
	if err != nil {
		return nil, fmt.Errorf("the socket of systemd cannot be used: %w", err)
	}
	return l, nil
}

// kindOf says what a descriptor is, or returns "" for a TCP socket that listens.
func kindOf(fd int) string {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	switch {
	case errors.Is(err, unix.ENOTSOCK):
		return "a file that is no socket"
	case err != nil:
		return "a descriptor that is not open"
	case domain == unix.AF_UNIX:
		return "a Unix socket"
	case domain != unix.AF_INET && domain != unix.AF_INET6:
		return "a socket that is not of IP"
	}
	kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	protocol, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	switch {
	case kind == unix.SOCK_DGRAM:
		return "a UDP socket"
	case kind != unix.SOCK_STREAM || protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP:
		return "a socket that is not of TCP"
	case listens == 0:
		return "a connection (Accept=yes)"
	}
	return ""
}
