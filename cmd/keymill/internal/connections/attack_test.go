package connections

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
)

// pause is between two acts of an attacker.
const pause = 100 * time.Millisecond

// An attack is what a client does again and again on its connection, n times so far. It returns an error when the server
// has ended the connection.
type attack struct {
	name  string
	http2 bool
	read  bool // it reads what the server sends
	act   func(a *attacker, n int) error
}

// An attacker is one connection of an attack.
type attacker struct {
	net.Conn
	frames *http2.Framer // nil for HTTP/1.1
}

// request begins a request of HTTP/2, which has a body unless it is whole.
func (a *attacker) request(n int, path string, whole bool) error {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "x"}, {":path", path}} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return a.frames.WriteHeaders(http2.HeadersFrameParam{
		StreamID: uint32(2*n + 1), BlockFragment: block.Bytes(), EndHeaders: true, EndStream: whole,
	})
}

// say sends text at the first act, and more at each later one.
func (a *attacker) say(n int, text, more string) error {
	if n > 0 {
		text = more
	}
	a.SetWriteDeadline(time.Now().Add(pause)) // the server may not read
	_, err := io.WriteString(a, text)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		err = nil
	}
	return err
}

var attacks = []attack{
	{"bodies that never come", false, true, func(a *attacker, n int) error {
		return a.say(n, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\na", "")
	}},
	{"bodies byte by byte", false, true, func(a *attacker, n int) error {
		return a.say(n, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\na", "a")
	}},
	{"headers byte by byte", false, true, func(a *attacker, n int) error { return a.say(n, "GET / HTTP/1.1\r\n", "X: y\r\n") }},
	{"answers that are not read", false, false, func(a *attacker, n int) error {
		return a.say(n, strings.Repeat("GET /large HTTP/1.1\r\nHost: x\r\n\r\n", 20), "")
	}},
	{"bodies that never come", true, true, func(a *attacker, n int) error { return a.request(n, "/", false) }},
	{"bodies byte by byte beside whole requests", true, true, func(a *attacker, n int) error {
		if n == 0 {
			return a.request(n, "/", false)
		}
		a.frames.WriteData(1, false, []byte("a"))
		return a.request(n, "/", true)
	}},
	{"requests that are reset", true, true, func(a *attacker, n int) error {
		a.request(n, "/", false)
		return a.frames.WriteRSTStream(uint32(2*n+1), http2.ErrCodeCancel)
	}},
	{"pings", true, true, func(a *attacker, n int) error { return a.frames.WritePing(false, [8]byte{byte(n)}) }},
	{"settings", true, true, func(a *attacker, n int) error { return a.frames.WriteSettings() }},
	{"window 0", true, true, func(a *attacker, n int) error {
		if n == 0 {
			a.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		}
		return a.request(n, "/large", true)
	}},
	{"answers that are not read", true, false, func(a *attacker, n int) error {
		if n > 50 {
			return a.frames.WritePing(false, [8]byte{})
		}
		return a.request(n, "/large", true)
	}},
}

// run attacks until the server ends the connection or stop is closed.
func (k attack) run(w *world, stop chan struct{}, acts *atomic.Int32) {
	conn, err := net.Dial("tcp", w.l.Addr().String())
	if err != nil {
		return
	}
	defer conn.Close()
	protocol := "http/1.1"
	if k.http2 {
		protocol = "h2"
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if secure.Handshake() != nil {
		return
	}
	a := &attacker{Conn: secure}
	over := make(chan struct{})
	if k.http2 {
		if _, err := io.WriteString(a, http2.ClientPreface); err != nil {
			return
		}
		a.frames = http2.NewFramer(a, nil)
		a.frames.WriteSettings()
	}
	if k.read {
		go func() { io.Copy(io.Discard, a); close(over) }()
	}
	for n := 0; ; n++ {
		if k.act(a, n) != nil {
			return
		}
		acts.Add(1)
		select {
		case <-stop:
			return
		case <-over:
			return
		case <-time.After(pause):
		}
	}
}

// TestNoAttackKeepsAPlaceForEver: while attackers hold every place and come back when they have lost it, a client that behaves
// well is served, and so is a request that was whole before.
func TestNoAttackKeepsAPlaceForEver(t *testing.T) {
	t.Parallel()
	key := tlstest.NewKey(t, "ECDSA")
	cert, err := tls.X509KeyPair((&tlstest.Cert{Name: "x", Key: key}).PEM(t), tlstest.KeyPEM(t, key))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, k := range attacks {
		for _, comesBack := range []bool{false, true} {
			w := newWorld(t, 5, &cert)
			all.Go(func() { k.against(w, comesBack) })
		}
	}
	all.Wait()
}

func (k attack) against(w *world, comesBack bool) {
	fail := func(what string, err error) {
		if err != nil {
			w.t.Errorf("%s, HTTP/2 %v, coming back %v: %s: %v", k.name, k.http2, comesBack, what, err)
		}
	}
	honest := &http.Client{Timeout: failsafe, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: k.http2, DisableKeepAlives: !k.http2,
	}}
	url := "https://" + w.l.Addr().String()
	under := make(chan error, 1)
	go func() { under <- fetch(honest, url+"/wait") }()
	w.await("a request under way", func() bool { return w.working() == 1 })

	stop := make(chan struct{})
	var attackers sync.WaitGroup
	var acts [4]atomic.Int32
	for i := range acts {
		attackers.Go(func() {
			// On a slow machine net/http can end a connection before its first act: HTTP/2 gives its preface two seconds.
			for held := false; !held || comesBack; held = acts[i].Load() > 3 {
				k.run(w, stop, &acts[i])
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	defer func() { close(stop); attackers.Wait() }()
	for i := range acts {
		w.await("no place is left", func() bool { return acts[i].Load() > 3 })
	}
	for range 2 {
		check := &http.Client{Timeout: failsafe, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		err := fetch(check, url+"/")
		for end := time.Now().Add(failsafe); err != nil && time.Now().Before(end); { // a slow machine may send late
			err = fetch(check, url+"/")
		}
		fail("a client that behaves well", err)
	}
	w.gate <- struct{}{}
	fail("the request that was whole", <-under)
}

// working returns how many requests are worked on.
func (w *world) working() (n int) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	for c := range w.l.active.all() {
		c.mu.Lock()
		n += c.working
		c.mu.Unlock()
	}
	return n
}

// fetch sends a request with a body.
func fetch(client *http.Client, url string) error {
	return wantOK(client.Post(url, "text/plain", strings.NewReader("a body")))
}
