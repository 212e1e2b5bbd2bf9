package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/serve"
)

// A gate is a trial server with verify.listen on a socket.
type gate struct {
	*child
	p      *place
	socket string
	token  string
}

func (p *place) startGate() *gate {
	p.t.Helper()
	g := &gate{p: p, socket: filepath.Join(p.dir, "verify.sock")}
	g.child = p.startWith(environment("KEYMILL_VERIFY_LISTEN=unix:"+g.socket), "serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0")
	dev := p.credentials()
	secret := p.writeKey("dev.secret", dev.Clients[clientAt(p.t, dev.Clients, "dev-service")].Secret)
	g.token = strings.TrimSpace(p.must(nil, "token", "--issuer", "http://"+g.address, "--client", "dev-service", "--client-secret-file", secret))
	return g
}

func clientAt(t testing.TB, clients []serve.TrialClient, id string) int {
	t.Helper()
	for n, c := range clients {
		if c.ID == id {
			return n
		}
	}
	t.Fatalf("there is no client %s", id)
	return 0
}

// dial connects as a proxy does and sends text.
func (g *gate) dial(text string) net.Conn {
	g.t.Helper()
	var conn net.Conn
	var err error
	// EAGAIN: more connections wait to be accepted than net.core.somaxconn, which some machines have at 128.
	eventually(failsafe, func() bool {
		conn, err = net.Dial("unix", g.socket)
		return !errors.Is(err, syscall.EAGAIN)
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(failsafe))
	io.WriteString(conn, text) // the server may close it before the end
	return conn
}

// raw sends text and returns the status of the first answer, and what follows the answer; 0 if there is none.
func (g *gate) raw(text string) (status int, rest string) {
	g.t.Helper()
	conn := g.dial(text)
	defer conn.Close()
	read := bufio.NewReader(conn)
	answer, err := http.ReadResponse(read, nil)
	if err != nil {
		return 0, err.Error()
	}
	io.Copy(io.Discard, answer.Body)
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // the answer to a second request would come at once
	more, _ := io.ReadAll(read)
	return answer.StatusCode, string(more)
}

// asks returns a request of a proxy, with more lines in its header.
func (g *gate) asks(lines ...string) string {
	return "GET /verify?audience=dev-api HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(lines, "\r\n"), "\r\n")
}

func (g *gate) bearer() string { return "Authorization: Bearer " + g.token }

// TestAnUnderstoodRequestIsTheOnlyOneLetIn: of requests that two programs can read in two ways, none gets 2xx unless it has
// one token, and what hides behind it is no second request.
func TestAnUnderstoodRequestIsTheOnlyOneLetIn(t *testing.T) {
	t.Parallel()
	g := newPlace(t).startGate()
	if status, rest := g.raw(g.asks(g.bearer())); status != 204 || rest != "" {
		t.Fatalf("a good request: %d %q", status, rest)
	}
	for what, text := range map[string]string{
		"two headers":            g.asks(g.bearer(), g.bearer()),
		"two, in other cases":    g.asks(g.bearer(), "AUTHORIZATION: x"),
		"a folded header":        g.asks(g.bearer(), " "+g.token),
		"a space before colon":   g.asks("Authorization : Bearer " + g.token),
		"an underscore":          g.asks("Authorization_: Bearer " + g.token),
		"a NUL":                  g.asks("Authorization: Bearer " + g.token + "\x00"),
		"a bare CR":              g.asks("Authorization: Bearer x\r" + g.bearer()),
		"behind an empty header": g.asks(": x", "X: y\x00", g.bearer()),
		"no audience, in a body": "GET /verify HTTP/1.1\r\nHost: x\r\n" + g.bearer() + "\r\nContent-Length: 16\r\n\r\naudience=dev-api",
		"a token in a trailer":   g.asks("Transfer-Encoding: chunked", "Trailer: Authorization") + "0\r\n" + g.bearer() + "\r\n\r\n",
		"two lengths":            g.asks(g.bearer(), "Content-Length: 1", "Content-Length: 2") + "xx",
		"a strange coding":       g.asks(g.bearer(), "Transfer-Encoding: identity, xchunked"),
		"HTTP/2 without TLS":     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a proxy's request":      "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n" + g.bearer() + "\r\n\r\n",
		"the whole server":       "OPTIONS * HTTP/1.1\r\nHost: x\r\n" + g.bearer() + "\r\n\r\n",
		"a path that climbs":     "GET /verify/../verify?audience=dev-api HTTP/1.1\r\nHost: x\r\n" + g.bearer() + "\r\n\r\n",
		"a huge token":           g.asks("Authorization: Bearer " + strings.Repeat("a", 1<<20)),
		"many headers":           g.asks(strings.Repeat("X-Many: a\r\n", 200) + g.bearer()),
		"TLS":                    "\x16\x03\x01\x02\x00\x01\r\n\r\n",
	} {
		if status, rest := g.raw(text); status < 400 && status != 0 || strings.Contains(rest, " 204 ") {
			t.Errorf("%s: %d, and behind it %q", what, status, rest)
		}
	}
	// A body is not read, so nothing in it is a second question.
	for what, text := range map[string]string{
		"a length":             g.asks("Content-Length: "+fmt.Sprint(len(g.asks(g.bearer())))) + g.asks(g.bearer()),
		"a chunked body":       g.asks("Transfer-Encoding: chunked") + "1000\r\n" + g.asks(g.bearer()),
		"a length and chunked": g.asks("Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + g.asks(g.bearer()),
		"expecting 100":        g.asks("Expect: 100-continue", "Content-Length: 500") + g.asks(g.bearer()),
	} {
		if status, rest := g.raw(text); status < 400 || strings.Contains(rest, " 204 ") {
			t.Errorf("%s: %d, and behind it %q", what, status, rest)
		}
	}
	if status, _ := get(g.url("/verify?audience=dev-api")); status != 404 {
		t.Errorf("the public listener: %d", status)
	}
}

// TestProxiesAreAnsweredBesideBadOnes: hundreds of connections that hang before, within and behind a request keep no
// proxy waiting for long, and at most 256 are open.
func TestProxiesAreAnsweredBesideBadOnes(t *testing.T) {
	t.Parallel()
	g := newPlace(t).startGate()
	for range 200 {
		g.dial("")
		g.dial("GET /verify?audience=dev-api HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		g.dial(strings.Repeat(g.asks(), 20))
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				if status, rest := g.raw(g.asks(g.bearer())); status != 204 {
					t.Errorf("%d %s", status, rest)
					return
				}
			}
		})
	}
	all.Wait()
	if status, body := get(g.url("/readyz")); status != 200 {
		t.Errorf("the public listener: %d %s", status, body)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err == nil && len(files) > 256+50 {
		t.Errorf("%d files are open", len(files))
	}
	g.signal(syscall.SIGTERM)
	if code := g.wait(failsafe); code != 0 {
		t.Errorf("the stop: exit code %d", code)
	}
}

// TestTheSocketForProxiesIsNotForEveryUser, it goes at a stop, a crash leaves no obstacle, and a second server does not
// take it.
//
// R128.
func TestTheSocketForProxiesIsNotForEveryUser(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	g := p.startGate()
	info, err := os.Lstat(g.socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("%v (%v)", info, err)
	}
	other := newPlace(t)
	_, errs, code := other.runWith(environment("KEYMILL_VERIFY_LISTEN=unix:"+g.socket), "serve", "--dev", "--data", other.data, "--listen", "127.0.0.1:0")
	if code == 0 || !strings.Contains(errs, "KEYMILL_VERIFY_LISTEN: another process listens on "+g.socket) || !strings.Contains(errs, "stop it, or choose another path") {
		t.Errorf("a second server: %d\n%s", code, errs)
	}
	g.signal(syscall.SIGKILL)
	g.wait(failsafe)
	if _, err := os.Lstat(g.socket); err != nil {
		t.Fatalf("the crash left no socket: %v", err)
	}
	g = p.startGate()
	if status, _ := g.raw(g.asks(g.bearer())); status != 204 {
		t.Errorf("after the crash: %d", status)
	}
	idle := g.dial(g.asks()) // a connection that a proxy keeps
	io.ReadFull(idle, make([]byte, 12))
	g.signal(syscall.SIGTERM)
	if code := g.wait(failsafe); code != 0 || strings.Contains(g.errs.String(), "ending connections") {
		t.Errorf("the stop: exit code %d\n%s", code, g.errs)
	}
	if _, err := os.Lstat(g.socket); err == nil {
		t.Error("the stop left the socket")
	}
}

// TestAPublicAddressForProxiesIsRefusedAtTheStart, before anything is created.
func TestAPublicAddressForProxiesIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, address := range []string{"0.0.0.0:8423", ":8423", "192.0.2.1:8423"} {
		_, errs, code := p.runWith(append(p.env(), "KEYMILL_VERIFY_LISTEN="+address), p.serveArgs("--init")...)
		if code != 1 || !strings.Contains(errs, "is not loopback, and only proxies on this machine may ask") || !strings.Contains(errs, "unix:/run/") {
			t.Errorf("%s: %d\n%s", address, code, errs)
		}
	}
	if _, err := os.Stat(p.data); err == nil {
		t.Error("the data directory was created")
	}
}
