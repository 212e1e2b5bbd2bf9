package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/integration_test/counts"
)

// A way stands between nodes and a part of the cluster. It passes bytes on, and can cut connections.
type way struct {
	listener net.Listener
	to       string
	deaf     atomic.Bool // answers are kept back

	mu   sync.Mutex
	open map[net.Conn]net.Conn // node → part; owned by mu
}

// newWay passes on what arrives at the listener, until the test ends.
func newWay(t *testing.T, listener net.Listener, to string) *way {
	t.Helper()
	y := &way{listener: listener, to: to, open: map[net.Conn]net.Conn{}}
	go func() {
		for {
			node, err := listener.Accept()
			if err != nil {
				return
			}
			go y.serve(node)
		}
	}()
	t.Cleanup(func() { listener.Close(); y.cut() })
	return y
}

func (y *way) serve(node net.Conn) {
	part, err := net.Dial("tcp", y.to)
	if err != nil {
		node.Close()
		return
	}
	y.mu.Lock()
	y.open[node] = part
	y.mu.Unlock()
	go y.pass(part, node, false)
	y.pass(node, part, true)
	y.mu.Lock()
	delete(y.open, node)
	y.mu.Unlock()
}

func (y *way) pass(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if answers && y.deaf.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// cut keeps answers back for up to 3 ms and then cuts all connections, so that the answers to requests that are done are
// lost. It returns how many connections there were.
func (y *way) cut() int {
	y.deaf.Store(true)
	time.Sleep(mathrand.N(3 * time.Millisecond))
	y.mu.Lock()
	defer y.mu.Unlock()
	n := len(y.open)
	for node, part := range y.open {
		node.Close()
		part.Close()
		delete(y.open, node)
	}
	y.deaf.Store(false)
	return n
}

// withTLS makes a listener speak TLS from the first byte on, as PostgreSQL does with sslnegotiation=direct. file is
// the CA of its certificate.
func withTLS(t *testing.T, listener net.Listener, dir string) (_ net.Listener, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "PostgreSQL of a test"},
		IPAddresses: []net.IP{listener.Addr().(*net.TCPAddr).IP},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.NewListener(listener, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
		NextProtos:   []string{"postgresql"},
	}), file
}

// address returns the address of a part that scripts/cluster runs at that offset from its first port.
func (w *world) address(offset int) string { return fmt.Sprintf("127.0.0.1:%d", w.port+offset) }

// Offsets of ports.
const (
	firstDB  = 5
	secondDB = 6
	pooler   = 7
)

// A detour is the ways of all nodes to the databases and to the pooler.
type detour struct{ ways map[int]*way } // by offset of the port

// newDetour prepares ways that nodes take after reroute and a restart.
func (w *world) newDetour(t *testing.T) detour {
	t.Helper()
	d := detour{ways: map[int]*way{}}
	for _, offset := range []int{firstDB, secondDB, pooler} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		d.ways[offset] = newWay(t, listener, w.address(offset))
	}
	return d
}

// reroute changes the configuration of a node of scripts/cluster.
func (w *world) reroute(t *testing.T, node string, d detour) {
	t.Helper()
	file := filepath.Join(w.dir, node, "keymill.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for offset, y := range d.ways {
		changed = strings.ReplaceAll(changed, w.address(offset), y.listener.Addr().String())
	}
	if changed == string(text) {
		t.Fatalf("the configuration of %s names no database", node)
	}
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

// cutAllTheTime cuts the connections of all nodes every 50 ms. pgbouncer 1.18 can end itself then ("FATAL bad client
// state"), so it is started again, as systemd does.
func (w *world) cutAllTheTime(t *testing.T, d detour) {
	end := time.Now().Add(cutting())
	rounds, cut, ended := 0, 0, 0
	for ; time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for _, y := range d.ways {
			cut += y.cut()
		}
		if rounds++; rounds%10 == 0 && !w.poolerRuns() {
			w.do(t, "start pgbouncer")
			ended++
		}
	}
	if !w.poolerRuns() {
		w.do(t, "start pgbouncer")
		ended++
	}
	if cut < rounds {
		t.Errorf("%d connections were cut in %d rounds", cut, rounds)
	}
	t.Logf("counted: %d connections were cut in %d rounds, and the pooler ended by itself %d times", cut, rounds, ended)
}

// cutting is how long connections are cut.
func cutting() time.Duration { return time.Duration(counts.Of("cluster-cut-seconds")) * time.Second }

func (w *world) poolerRuns() bool {
	conn, err := net.Dial("tcp", w.address(pooler))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
