// Package peer tells which user of this machine is at the other end of a TCP connection on loopback. The
// kernel lists all sockets in /proc/net/tcp and tcp6 (proc_net_tcp(5)): the other end's own socket has the
// two addresses of the connection in reverse, and beside them the uid that made it.
//
//	sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid
//	 0: 0100007F:9C40 0100007F:20E4 01 00000000:00000000 00:00000000 00000000  1000 …
package peer

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// established is the state of a socket that a process holds. In later states the kernel may show uid 0 for a
// socket that no process has any longer, so only this state names a user.
const established = "01"

// looks is how often the lists are read: the kernel may leave out a socket if others change while it lists.
const looks = 3

// UID returns the user at the other end of c. Without an answer it returns an error, also if the socket
// was closed in the meantime.
func UID(c net.Conn) (int, error) {
	local, err := addrPort(c.LocalAddr())
	if err != nil {
		return 0, err
	}
	remote, err := addrPort(c.RemoteAddr())
	if err != nil {
		return 0, err
	}
	var faults error
	for range looks {
		for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
			uid, found, err := lookIn(path, remote, local)
			if found && err == nil {
				return uid, nil
			}
			faults = err
		}
	}
	if faults != nil {
		return 0, faults
	}
	return 0, fmt.Errorf("no process of this machine holds the connection from %s", remote)
}

func addrPort(a net.Addr) (netip.AddrPort, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%v is no TCP address", a)
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()), nil
}

func lookIn(path string, local, remote netip.AddrPort) (uid int, found bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(path, "6") {
		return 0, false, nil // a kernel without IPv6
	} else if err != nil {
		return 0, false, err
	}
	defer f.Close()
	return find(f, local, remote)
}

// find reads a list and returns the user of the socket from local to remote.
func find(r io.Reader, local, remote netip.AddrPort) (uid int, found bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Scan() // the names of the columns
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[3] != established {
			continue
		}
		from, err := parse(f[1])
		if err != nil {
			return 0, false, err
		}
		to, err := parse(f[2])
		if err != nil {
			return 0, false, err
		}
		if from == local && to == remote {
			uid, err := strconv.Atoi(f[7])
			return uid, err == nil, err
		}
	}
	return 0, false, lines.Err()
}

// parse reads an address as the kernel prints it: words of four bytes in the order of the machine, which is
// little-endian on every architecture that Keymill is built for, then the port.
func parse(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	n, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("%.60q is no address of a socket", s)
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%.60q is no address of a socket", s)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// A Listener accepts connections of some users only. It closes all others before a byte is read.
type Listener struct {
	net.Listener
	UIDs    []int
	Refused func(from net.Addr, err error) // is told about each connection that was closed; may be nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := UID(c)
		if err == nil && slices.Contains(l.UIDs, uid) {
			return c, nil
		}
		if err == nil {
			err = fmt.Errorf("uid %d", uid)
		}
		c.Close()
		if l.Refused != nil {
			l.Refused(c.RemoteAddr(), err)
		}
	}
}
