package numbers

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// An attacked server is asked for tokens while other clients attack it.
type attacked struct {
	*server.Server
	client  server.Client
	address string
	secure  bool
	metrics string // address of its metrics, which the attack does not reach
}

func newAttacked(t *testing.T, secure bool) *attacked {
	t.Helper()
	metrics, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	o := server.Options{Config: "metrics: {listen: \"" + metrics + "\"}\n"}
	if secure {
		dir, err := os.MkdirTemp("", "km")
		if err != nil {
			t.Fatal(err)
		}
		o.Dir, o.HTTPS = dir, true
		o.Config += "tls: {cert_file: " + dir + "/cert.pem, key_file: " + dir + "/key.pem}\n"
		writeCertificate(t, dir)
	}
	srv := server.Start(t, o)
	srv.Run(t, "audience", "add", "orders", "--alg", "EdDSA")
	_, address, _ := strings.Cut(srv.URL, "://")
	return &attacked{srv, srv.AddClient(t, "billing", "orders"), address, secure, metrics}
}

// writeCertificate writes a certificate that is its own issuer.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err1 := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	write := func(name, block string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), 0o600)
	}
	if err := errors.Join(err1, err2, write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", private)); err != nil {
		t.Fatal(err)
	}
}

// dial opens a connection with a small buffer for what the server sends.
func (a *attacked) dial() (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conn, err := d.Dial("tcp", a.address)
	if err != nil || !a.secure {
		return conn, err
	}
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// gauge reads a number of the server's metrics. The server answers only some scrapes a second.
func (a *attacked) gauge(t *testing.T, name string) int {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + a.metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			continue
		}
		_, after, _ := strings.Cut(string(text), "\n"+name+" ")
		number, _, _ := strings.Cut(after, "\n")
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			t.Fatalf("metric %s: %q", name, number)
		}
		return int(n)
	}
	t.Fatal("the metrics are not served")
	return 0
}

// probe asks for n tokens, each on a new connection, and returns the 99th of 100 times.
func (a *attacked) probe(t *testing.T, n int) time.Duration {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	var times []time.Duration
	for range n {
		form := strings.NewReader("grant_type=client_credentials&client_id=" + a.client.ID + "&client_secret=" + a.client.Secret)
		begun := time.Now()
		resp, err := client.Post(a.URL+"/token", "application/x-www-form-urlencoded", form)
		if err != nil {
			t.Fatalf("a probe: %v", err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		times = append(times, time.Since(begun))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("a probe: %d %s, %v", resp.StatusCode, body, err)
		}
	}
	slices.Sort(times)
	return times[len(times)*99/100-1]
}

// An attack says what each of its clients does on a connection, again and again.
type attack struct {
	name    string
	clients int
	run     func(conn net.Conn) error // sends, and returns when the server holds what it should hold
	held    bool                      // the connection stays open until the server or the test ends it
	wants   string                    // status that at least one client gets; "" if none is answered
}

const post = "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"

func attacks() []attack {
	send := func(text string) func(net.Conn) error {
		return func(c net.Conn) error { _, err := io.WriteString(c, text); return err }
	}
	return []attack{
		{name: "idle connections", clients: counts.Of("idle-connections"), held: true, run: func(c net.Conn) error {
			io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			return err
		}},
		{name: "slow headers", clients: counts.Of("slow-clients"), held: true, run: send(post + "X-A: ")},
		{name: "slow bodies", clients: counts.Of("slow-clients"), held: true, run: send(post + "Content-Length: 100\r\n\r\ngrant_ty")},
		{name: "slow readers", clients: counts.Of("slow-readers"), held: true, run: readNothing},
		{name: "bodies of 100 MB", clients: counts.Of("large-requests"), run: send100MB, wants: "413"},
		{name: "endless bodies", clients: counts.Of("large-requests"), run: endless, wants: "413"},
		{name: "headers of 1 MB", clients: counts.Of("large-requests"), run: send(post + "X-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"), wants: "431"},
		{name: "10,001 headers", clients: counts.Of("large-requests"), run: send(post + strings.Repeat("a:b\r\n", 10_001) + "\r\n"), wants: "431"},
		{name: "10,001 parameters", clients: counts.Of("large-requests"), run: form(strings.Repeat("&a=1", 10_001)), wants: "413"},
		{name: "4,000 parameters", clients: counts.Of("large-requests"), run: form(strings.Repeat("&a=1", 4_000)), wants: "400"},
		{name: "10,001 parameters in the URL", clients: counts.Of("large-requests"), run: send("POST /token?" + strings.Repeat("&a=1", 10_001) + " HTTP/1.1\r\nHost: x\r\n\r\n"), wants: "431"},
	}
}

func form(body string) func(net.Conn) error {
	return func(c net.Conn) error {
		_, err := fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", post, len(body), body)
		return err
	}
}

// readNothing sends requests until the server can send no more answers.
func readNothing(c net.Conn) error {
	request := strings.Repeat("GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n", 50)
	for {
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := io.WriteString(c, request); errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// send100MB sends a body of 100 MB, or as much of it as the server takes.
func send100MB(c net.Conn) error {
	return sendLong(c, "Content-Length: 104857600\r\n\r\n", strings.Repeat("a", 64<<10), 1600)
}

// endless sends a body in chunks until the server ends it.
func endless(c net.Conn) error {
	return sendLong(c, "Transfer-Encoding: chunked\r\n\r\n", "10000\r\n"+strings.Repeat("a", 64<<10)+"\r\n", math.MaxInt)
}

// sendLong sends a request whose body has most parts. It ends early when the server ends the connection.
func sendLong(c net.Conn, header, part string, most int) error {
	if _, err := io.WriteString(c, post+header); err != nil {
		return err
	}
	for range most {
		if _, err := io.WriteString(c, part); err != nil {
			return nil // the answer may have come
		}
	}
	return nil
}

// An assault is an attack that goes on until stop.
type assault struct {
	stop     func()
	answered sync.Map // status → true
}

// begin starts all clients and returns when each holds a connection, or has sent its first request.
func (a *attacked) begin(t *testing.T, k attack) *assault {
	t.Helper()
	s := &assault{}
	var clients, first sync.WaitGroup
	ended := make(chan struct{})
	first.Add(k.clients)
	for range k.clients {
		clients.Go(func() {
			begun := sync.OnceFunc(first.Done)
			defer begun()
			for {
				s.once(a, k, begun, ended)
				select {
				case <-ended:
					return
				case <-time.After(200 * time.Millisecond): // many bytes, and not many requests, are the attack
				}
			}
		})
	}
	first.Wait()
	s.stop = sync.OnceFunc(func() { close(ended); clients.Wait() })
	t.Cleanup(s.stop)
	return s
}

// once attacks on one connection.
func (s *assault) once(a *attacked, k attack, begun func(), ended chan struct{}) {
	conn, err := a.dial()
	if err != nil {
		return
	}
	defer conn.Close()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-ended:
			conn.SetDeadline(time.Now())
		case <-over:
		}
	}()
	sent := k.run(conn)
	conn.SetWriteDeadline(time.Time{})
	if k.held && sent == nil {
		begun()
		conn.Read(make([]byte, 1)) // until the server ends it; of a slow reader this takes a byte
		if k.name == "slow readers" {
			<-ended
		}
		return
	}
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		s.answered.Store(strconv.Itoa(resp.StatusCode), true)
		begun()
	}
}

// Bounds of what an attack may cost, by what it holds.
const (
	probes         = 100
	latest         = 250 * time.Millisecond // of 99 in 100 probes, in the full tier
	basicGrowth    = 48 << 20               // bytes of memory, whatever the attack
	plainGrowth    = 48 << 10               // more for each client
	securedGrowth  = 96 << 10               // the same with TLS
	spareResources = 16                     // goroutines and descriptors more than before, after the attack
)

// TestAttacksDelayNoTokenAndAreReleased: slow and large requests and idle connections, with and without TLS. While the
// attack lasts, every probe on a new connection gets its token, and memory stays below a bound that depends on the
// number of connections. Afterwards goroutines and descriptors are as before, and the next attack stays below the same
// bound.
//
// The times are a bound in the full tier only: there the machine has nothing else to do. In the ci tier other tests
// run beside this one, and a bound of 250 ms would measure those. There the test shows that the attack, which is held
// all the time, keeps no probe waiting for its end.
func TestAttacksDelayNoTokenAndAreReleased(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "http", true: "TLS"}[secure], func(t *testing.T) {
			a := newAttacked(t, secure)
			a.probe(t, 20)
			calm := a.probe(t, probes)
			for _, k := range attacks() {
				t.Run(k.name, func(t *testing.T) { a.endure(t, k, calm) })
			}
		})
	}
}

// rounds returns how often each attack is made. What three attacks leave behind would exceed the bound of one.
func rounds() int {
	if os.Getenv(counts.Tier) == "full" {
		return 3
	}
	return 2
}

func (a *attacked) endure(t *testing.T, k attack, calm time.Duration) {
	goroutines, files := a.gauge(t, "go_goroutines"), a.gauge(t, "process_open_fds")
	before, err := memoryOf(a.PID())
	if err != nil {
		t.Fatal(err)
	}
	each := int64(plainGrowth)
	if a.secure {
		each = securedGrowth
	}
	bound := before.anonymous + basicGrowth + each*int64(k.clients)
	for round := range rounds() {
		peak := watch(t, a.Server)
		s := a.begin(t, k)
		late := a.probe(t, probes)
		if k.held && round == 0 && a.gauge(t, "process_open_fds") < files+k.clients*9/10 {
			t.Errorf("the attack holds %d descriptors, want about %d", a.gauge(t, "process_open_fds")-files, k.clients)
		}
		s.stop()
		most := peak().anonymous
		if most > bound {
			t.Errorf("round %d: memory rose from %d KB to %d KB, at most %d are allowed", round+1, before.anonymous>>10, most>>10, bound>>10)
		}
		if _, ok := s.answered.Load(k.wants); k.wants != "" && !ok {
			t.Errorf("no client got %s", k.wants)
		}
		t.Logf("counted: %d × %s, TLS %v: 99 of %d tokens within %v (without the attack %v), %d KB of memory more", k.clients, k.name,
			a.secure, probes, late.Round(time.Millisecond/10), calm.Round(time.Millisecond/10), (most-before.anonymous)>>10)
		if os.Getenv(counts.Tier) == "full" && late > latest {
			t.Errorf("99 of %d tokens took up to %v, at most %v are allowed", probes, late, latest)
		}
	}
	a.released(t, goroutines, files)
}

// released waits until the server has given back what the attack took. Nothing but the server's own limits
// may be needed for that.
func (a *attacked) released(t *testing.T, goroutines, files int) {
	t.Helper()
	var g, f int
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		g, f = a.gauge(t, "go_goroutines"), a.gauge(t, "process_open_fds")
		if g <= goroutines+spareResources && f <= files+spareResources {
			return
		}
	}
	t.Errorf("%d goroutines and %d files are left, before the attack there were %d and %d", g, f, goroutines, files)
}

// TestTheServerEndsSlowClientsItself: those that never go on, in a header, in a body, in an answer and in a
// handshake. They hold nothing for ever.
func TestTheServerEndsSlowClientsItself(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "http", true: "TLS"}[secure], func(t *testing.T) {
			t.Parallel()
			a := newAttacked(t, secure)
			goroutines, files := a.gauge(t, "go_goroutines"), a.gauge(t, "process_open_fds")
			var slow sync.WaitGroup
			for _, k := range attacks() {
				if !k.held || k.name == "idle connections" {
					continue
				}
				conn, err := a.dial()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := k.run(conn); err != nil {
					t.Fatal(err)
				}
				slow.Go(func() { awaitEnd(t, k.name, conn) })
			}
			silent, err := net.Dial("tcp", a.address) // no byte, and with TLS no handshake
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			slow.Go(func() { awaitEnd(t, "no byte", silent) })
			slow.Wait()
			a.released(t, goroutines, files)
		})
	}
}

// awaitEnd sends single bytes, which the server does not have to read, until it has ended the connection.
func awaitEnd(t *testing.T, what string, conn net.Conn) {
	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var err error
		if what == "slow readers" {
			raw.SetWriteDeadline(time.Now().Add(time.Millisecond))
			_, err = raw.Write([]byte{0})
		} else {
			raw.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err = raw.Read(make([]byte, 4096))
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
	t.Errorf("%s: the server never ended the connection", what)
}
