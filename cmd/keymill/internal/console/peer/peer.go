// Package peer tells which user of this machine is at the other end of a TCP connection on loopback. The
// kernel lists all sockets in /proc/net/tcp and tcp6 (proc_net_tcp(5)): the other end's own socket has the
// two addresses of the connection in reverse, and beside them the uid that made it.
//
//	sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid
//	 0: 0100007F:9C40 0100007F:20E4 01 00000000:00000000 00:00000000 00000000  1000 …
package peer

import (
	"bufio"
	"cmp"
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
	"time"
)

// established is the state of a socket that a process holds. In later states the kernel may show uid 0 for a
// socket that no process has any longer, so only this state names a user.
const established = "01"

// looks is how often the lists are read: the kernel may leave out a socket if others change while it lists.
const looks = 3

// A pair is the two addresses of a socket, as the socket itself sees them.
type pair struct{ local, remote netip.AddrPort }

// users returns the user at the other end of each connection. It leaves out those without an answer, such as
// connections that the other end has closed. One look at the lists serves all connections: a list of thousands
// of sockets takes milliseconds, and another user of the machine can open thousands.
func users(conns []net.Conn) (uids map[net.Conn]int, err error) {
	uids = map[net.Conn]int{}
	wanted := map[pair]net.Conn{}
	for _, c := range conns {
		local, localErr := addrPort(c.LocalAddr())
		remote, remoteErr := addrPort(c.RemoteAddr())
		if err = cmp.Or(localErr, remoteErr); err == nil {
			wanted[pair{remote, local}] = c
		}
	}
	answer := func(p pair, uid int) {
		if c := wanted[p]; c != nil {
			uids[c] = uid
			delete(wanted, p)
		}
	}
	for range looks {
		for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
			if len(wanted) == 0 {
				return uids, err
			}
			if fault := lookIn(path, answer); fault != nil {
				err = fault
			}
		}
	}
	return uids, err
}

func addrPort(a net.Addr) (netip.AddrPort, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%v is no TCP address", a)
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()), nil
}

func lookIn(path string, answer func(pair, int)) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(path, "6") {
		return nil // a kernel without IPv6
	} else if err != nil {
		return err
	}
	defer f.Close()
	return list(f, answer)
}

// list reads a list and calls answer for each socket that a process holds.
func list(r io.Reader, answer func(pair, int)) error {
	lines := bufio.NewScanner(r)
	lines.Scan() // the names of the columns
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[3] != established {
			continue
		}
		local, err := parse(f[1])
		if err != nil {
			return err
		}
		remote, err := parse(f[2])
		if err != nil {
			return err
		}
		uid, err := strconv.Atoi(f[7])
		if err != nil {
			return err
		}
		answer(pair{local, remote}, uid)
	}
	return lines.Err()
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
	*net.TCPListener
	UIDs    []int
	Refused func(from net.Addr, err error) // is told about each connection that was closed; may be nil

	admitted []net.Conn // by the last look, not returned yet
}

// What one look at the lists serves: the connections that are waiting, and those that come while it collects them.
const (
	maxBatch    = 512
	collectTime = time.Millisecond
)

// Accept implements net.Listener. One goroutine may call it, as http.Server does.
func (l *Listener) Accept() (net.Conn, error) {
	for len(l.admitted) == 0 {
		conns, err := l.collect()
		if err != nil {
			return nil, err
		}
		l.admit(conns)
	}
	c := l.admitted[0]
	l.admitted = l.admitted[1:]
	return c, nil
}

// collect waits for a connection and returns it with those behind it.
func (l *Listener) collect() (conns []net.Conn, err error) {
	if err := l.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c, err := l.TCPListener.Accept()
	if err != nil {
		return nil, err
	}
	l.SetDeadline(time.Now().Add(collectTime)) // an error comes from Accept as well
	for err == nil && len(conns) < maxBatch {
		conns = append(conns, c)
		c, err = l.TCPListener.Accept()
	}
	if err == nil {
		conns = append(conns, c)
	}
	return conns, nil // what ended the loop was the deadline, or the next call meets it again
}

// admit keeps the connections of the right users and closes the others.
func (l *Listener) admit(conns []net.Conn) {
	uids, err := users(conns)
	for _, c := range conns {
		uid, known := uids[c]
		if known && slices.Contains(l.UIDs, uid) {
			l.admitted = append(l.admitted, c)
			continue
		}
		c.Close()
		if l.Refused == nil {
			continue
		}
		why := cmp.Or(err, fmt.Errorf("no process of this machine holds it any longer"))
		if known {
			why = fmt.Errorf("uid %d", uid)
		}
		l.Refused(c.RemoteAddr(), why)
	}
}
