package peer

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// dialVariable makes this test binary connect to an address and print what it reads.
const dialVariable = "PEER_TEST_DIAL"

func TestMain(m *testing.M) {
	address := os.Getenv(dialVariable)
	if address == "" {
		os.Exit(m.Run())
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	got, err := io.ReadAll(c)
	fmt.Printf("%q %v\n", got, err)
}

// serve accepts connections and greets each.
func serve(t *testing.T, network, address string, uids ...int) (string, <-chan string) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		if network != "tcp6" || os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("this machine has no IPv6: ", err)
	}
	refused := make(chan string, 9)
	own := &Listener{TCPListener: l.(*net.TCPListener), UIDs: uids, Refused: func(_ net.Addr, err error) { refused <- err.Error() }}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := own.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "welcome")
			c.Close()
		}
	}()
	return l.Addr().String(), refused
}

func read(t *testing.T, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, _ := io.ReadAll(c)
	return string(got)
}

// note returns why a connection was closed, "" if none was.
func note(refused <-chan string) string {
	select {
	case why := <-refused:
		return why
	case <-time.After(10 * time.Second):
		return ""
	}
}

func TestTheOwnUserIsLetIn(t *testing.T) {
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		at, _ := serve(t, network, address, os.Getuid())
		if got := read(t, at); got != "welcome" {
			t.Errorf("over %s: %q", network, got)
		}
	}
}

func TestAUserWhoIsNotListedIsNotLetIn(t *testing.T) {
	at, refused := serve(t, "tcp", "127.0.0.1:0", os.Getuid()+1)
	if got := read(t, at); got != "" {
		t.Errorf("read %q", got)
	}
	if got, want := note(refused), fmt.Sprintf("uid %d", os.Getuid()); got != want {
		t.Errorf("refused %q, want %q", got, want)
	}
}

// TestAProcessOfAnotherUserIsNotLetIn, and none of its bytes is read.
//
// R120.
func TestAProcessOfAnotherUserIsNotLetIn(t *testing.T) {
	terminaltest.NeedRoot(t)
	at, refused := serve(t, "tcp", "127.0.0.1:0", 0)
	for uid, want := range map[uint32]string{0: `"welcome"`, 65534: `""`} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{dialVariable + "=" + at}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("uid %d read %s, %v, want %s", uid, out, err, want)
		}
	}
	if got := note(refused); got != "uid 65534" {
		t.Errorf("refused %q", got)
	}
}

// TestTheListOfTheKernelIsReadStrictly: a socket that no process holds shows uid 0.
func TestTheListOfTheKernelIsReadStrictly(t *testing.T) {
	const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	const line = "   0: 0100007F:9C40 0100007F:20E4 %s 00000000:00000000 00:00000000 00000000  %s        0 1 1\n"
	local, remote := netip.MustParseAddrPort("127.0.0.1:40000"), netip.MustParseAddrPort("127.0.0.1:8420")
	for _, tt := range []struct {
		state, uid string
		found      bool
	}{{"01", "1000", true}, {"06", "0", false}, {"05", "0", false}, {"04", "1000", false}, {"01", "x", false}} {
		uid, found, _ := find(header+fmt.Sprintf(line, tt.state, tt.uid), local, remote)
		if found != tt.found || found && uid != 1000 {
			t.Errorf("state %s, uid %s: %d, %v", tt.state, tt.uid, uid, found)
		}
		if _, found, _ := find(header+fmt.Sprintf(line, tt.state, tt.uid), remote, local); found {
			t.Error("the own end of the connection was found")
		}
	}
	mapped := "   0: 0000000000000000FFFF00000100007F:9C40 0000000000000000FFFF00000100007F:20E4 01 0:0 0:0 0  7 0 1 1\n"
	if uid, found, err := find(header+mapped, local, remote); uid != 7 || !found || err != nil {
		t.Errorf("a mapped address: %d, %v, %v", uid, found, err)
	}
	for _, s := range []string{"", ":", "01:00", "0100007F", "0100007F:10000", "zz00007F:0000"} {
		if a, err := parse(s); err == nil {
			t.Errorf("%q was read as %v", s, a)
		}
	}
}

// find returns the user of a socket in a list.
func find(text string, local, remote netip.AddrPort) (uid int, found bool, err error) {
	err = list(strings.NewReader(text), func(p pair, of int) {
		if p == (pair{local, remote}) {
			uid, found = of, true
		}
	})
	return uid, found, err
}

// TestConnectionsThatWaitAreLookedUpTogether: another user can open thousands, and the lists are read for all of them
// at once. Those that were closed in the meantime are not let in.
func TestConnectionsThatWaitAreLookedUpTogether(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const many = 60
	for n := range many {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		switch n % 3 {
		case 1:
			c.Close()
		case 2:
			c.(*net.TCPConn).CloseWrite()
		}
	}
	refused, most := 0, 0
	own := &Listener{TCPListener: l.(*net.TCPListener), UIDs: []int{os.Getuid()}, Refused: func(net.Addr, error) { refused++ }}
	for range many / 3 {
		c, err := own.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		most = max(most, len(own.admitted))
	}
	if most == 0 {
		t.Error("the lists were read for each connection")
	}
	if len(own.admitted) > 0 || refused < many-many/3-2 { // the last two may wait still
		t.Errorf("%d connections were closed, want %d", refused, many-many/3)
	}
}
