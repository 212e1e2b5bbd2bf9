package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// A namespace is a network of its own, as that of another machine, with one wire to this one:
//
//	here 10.x.y.1 ── wire ── 10.x.y.2 there
type namespace struct {
	name, wire string
	here       string // address of this machine on the wire
}

// newNamespace makes a namespace until the test ends. It fails the test, or without CI skips it, if the machine refuses.
func newNamespace(t *testing.T) *namespace {
	t.Helper()
	x, y := rand.N(256), rand.N(64)
	n := &namespace{name: fmt.Sprintf("km-%d-%d", os.Getpid(), x), wire: fmt.Sprintf("km%d-%d", os.Getpid(), x), here: fmt.Sprintf("10.%d.%d.1", x, 4*y)}
	network, there := fmt.Sprintf("10.%d.%d.0/30", x, 4*y), fmt.Sprintf("10.%d.%d.2/30", x, 4*y)
	t.Cleanup(func() {
		exec.Command("ip", "link", "del", n.wire).Run()
		exec.Command("ip", "netns", "del", n.name).Run()
		exec.Command("ip", "route", "del", "unreachable", network).Run()
	})
	for _, command := range []string{
		"netns add " + n.name,
		// No packet leaves this machine while the wire is cut.
		"route add unreachable " + network + " metric 4000",
		"link add " + n.wire + " type veth peer name wire netns " + n.name,
		"address add " + n.here + "/30 dev " + n.wire,
		"link set " + n.wire + " up",
		"-n " + n.name + " address add " + there + " dev wire",
		"-n " + n.name + " link set wire up",
		"-n " + n.name + " link set lo up",
	} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			missing(t, fmt.Sprintf("a namespace cannot be made, so no node is cut off: ip %s: %v %s", command, err, out))
		}
	}
	return n
}

// missing fails a test that cannot run here, or skips it without CI.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// cut pulls the wire out: packets are lost without a word. join puts it in again.
func (n *namespace) cut(t *testing.T)  { t.Helper(); n.set(t, "down") }
func (n *namespace) join(t *testing.T) { t.Helper(); n.set(t, "up") }

func (n *namespace) set(t *testing.T, state string) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", n.wire, state).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

const setns = 308 // the number of the system call on amd64, which package syscall does not name

// inside calls do on a thread that is in the namespace. Sockets and processes that it makes stay there. A nil namespace is
// the one of this process.
func (n *namespace) inside(do func() error) error {
	if n == nil {
		return do()
	}
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	there, err := os.Open("/var/run/netns/" + n.name)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := move(there); err != nil {
		return err
	}
	err = do()
	if back := move(own); back != nil {
		return errors.Join(err, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// move moves this thread into a namespace.
func move(to *os.File) error {
	if _, _, errno := syscall.RawSyscall(setns, to.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		return os.NewSyscallError("setns", errno)
	}
	return nil
}

// dial connects from within the namespace.
func (n *namespace) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.inside(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
