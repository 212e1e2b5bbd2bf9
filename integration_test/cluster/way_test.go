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
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/storage/postgres/postgrestest"
)

// newWay passes on what nodes send to a listener, until the test ends. It can cut their connections.
func newWay(t *testing.T, listener net.Listener, to string) *postgrestest.Proxy {
	t.Helper()
	y := postgrestest.NewProxyAt(listener, to, 0)
	t.Cleanup(y.Close)
	return y
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
type detour struct{ ways map[int]*postgrestest.Proxy } // by offset of the port

// newDetour prepares ways that nodes take after reroute and a restart.
func (w *world) newDetour(t *testing.T) detour {
	t.Helper()
	d := detour{ways: map[int]*postgrestest.Proxy{}}
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
		changed = strings.ReplaceAll(changed, w.address(offset), y.Addr().String())
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
			cut += y.Cut()
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
