package connections

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
)

// failsafe only bounds a hang.
const failsafe = 5 * time.Minute

// A world is an http.Server on a Listener.
type world struct {
	t      *testing.T
	l      *Listener
	server *http.Server
	log    terminaltest.Buffer
	served atomic.Int64
	gate   chan struct{} // /wait answers after a value
}

func newWorld(t *testing.T, most int, cert *tls.Certificate) *world {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, gate: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.l = New(inner, Config{Max: most, TLS: cert != nil, Log: log, Hint: "raise it"})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.served.Add(1)
		io.WriteString(rw, "ok")
	})
	mux.HandleFunc("/wait", func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-w.gate
		io.WriteString(rw, "ok")
	})
	mux.HandleFunc("/unread", func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, "ok") })
	mux.HandleFunc("/large", func(rw http.ResponseWriter, r *http.Request) { rw.Write(make([]byte, 1<<20)) })
	w.server = &http.Server{Handler: w.l.Handler(mux), ConnState: w.l.ConnState, ConnContext: w.l.ConnContext, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	if cert == nil {
		go w.server.Serve(w.l)
	} else {
		w.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
		go w.server.ServeTLS(w.l, "", "")
	}
	t.Cleanup(func() { w.server.Close() })
	return w
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(failsafe))
	return conn
}

// get sends a request on a connection that stays open, and reads the answer.
func get(conn net.Conn, path string) error {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return err
	}
	return answer(conn)
}

func answer(conn net.Conn) error {
	return wantOK(http.ReadResponse(bufio.NewReader(conn), nil))
}

// wantOK reads an answer, and returns an error if it is not that of the world's handler.
func wantOK(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && string(text) != "ok" {
		err = fmt.Errorf("%d %q", resp.StatusCode, text)
	}
	return err
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// await waits until a condition holds.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(failsafe); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("never: " + what)
		}
	}
}

func isOver(conn net.Conn) bool {
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset")
}

// TestANewConnectionTakesThePlaceOfTheLongestIdleOne, so that clients that only hold connections keep no other client
// away. One line a minute says so.
func TestANewConnectionTakesThePlaceOfTheLongestIdleOne(t *testing.T) {
	w := newWorld(t, 5, nil)
	var held []net.Conn
	for range 5 {
		held = append(held, w.dial())
		w.must(get(held[len(held)-1], "/"))
		idle := len(held)
		w.await("idle", func() bool { w.l.mu.Lock(); defer w.l.mu.Unlock(); return w.l.idle.len == idle })
	}
	w.must(get(held[0], "/")) // so the second one is now idle longest
	w.await("idle", func() bool {
		w.l.mu.Lock()
		defer w.l.mu.Unlock()
		return w.l.idle.len == 5 && w.l.idle.last.RemoteAddr().String() == held[0].LocalAddr().String()
	})
	for _, victim := range []int{1, 2} {
		w.must(get(w.dial(), "/"))
		if !isOver(held[victim]) {
			t.Errorf("connection %d is still open", victim)
		}
	}
	w.must(get(held[0], "/"))
	w.must(get(held[4], "/"))
	if n := strings.Count(w.log.String(), `level=WARN msg="the limit of connections is reached`); n != 1 || w.l.Open() > 5 {
		t.Errorf("%d lines, %d connections:\n%s", n, w.l.Open(), w.log.String())
	}
}

// TestConnectionsWithoutARequestMakeRoomFirst: those that have sent nothing, or half of a request, for a second. A younger one
// is probably that of a client whose request is under way, so an idle one goes before it.
func TestConnectionsWithoutARequestMakeRoomFirst(t *testing.T) {
	w := newWorld(t, 4, nil)
	idle := w.dial()
	w.must(get(idle, "/"))
	silent, half := w.dial(), w.dial()
	io.WriteString(half, "GET / HT")
	w.await("idle, silent and half", func() bool {
		w.l.mu.Lock()
		defer w.l.mu.Unlock()
		return w.l.idle.len == 1 && w.l.fresh.len == 2
	})
	time.Sleep(quiet + 10*time.Millisecond)
	newest := w.dial()
	w.await("four", func() bool {
		w.l.mu.Lock()
		defer w.l.mu.Unlock()
		if w.l.fresh.len != 3 {
			return false
		}
		w.l.fresh.last.since = time.Now().Add(time.Hour) // so that it is young, however slow the machine is
		return true
	})
	for _, victim := range []net.Conn{silent, half, idle} {
		w.must(get(w.dial(), "/x"))
		if !isOver(victim) {
			t.Error("another connection was closed")
		}
	}
	w.must(get(newest, "/"))
}

// TestARequestIsNeverEndedForANewConnection, which waits until one ends.
func TestARequestIsNeverEndedForANewConnection(t *testing.T) {
	w := newWorld(t, 2, nil)
	a, b := w.dial(), w.dial()
	io.WriteString(a, "GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	io.WriteString(b, "GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	w.await("two requests", func() bool { w.l.mu.Lock(); defer w.l.mu.Unlock(); return w.l.active.len == 2 })
	third := make(chan error)
	go func() { third <- get(w.dial(), "/") }()
	w.await("the third waits", func() bool { return strings.Contains(w.log.String(), "limit of connections") })
	select {
	case err := <-third:
		t.Fatalf("the third was answered: %v", err)
	default:
	}
	w.gate <- struct{}{}
	if err := <-third; err != nil {
		t.Error(err)
	}
	w.gate <- struct{}{}
	for _, c := range []net.Conn{a, b} {
		if err := answer(c); err != nil {
			t.Error(err)
		}
	}
}

// TestAStopLosesNoAnswer: while clients send on connections that stay open, every request that the server
// has served is answered. The others end before any byte of an answer, and were not served.
//
// I18.
func TestAStopLosesNoAnswer(t *testing.T) {
	t.Parallel()
	key := tlstest.NewKey(t, "ECDSA")
	pem := (&tlstest.Cert{Name: "x", Key: key}).PEM(t)
	cert, err := tls.X509KeyPair(pem, tlstest.KeyPEM(t, key))
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]*tls.Certificate{"plain": nil, "TLS": &cert} {
		for round := range 4 {
			w := newWorld(t, 1000, cert)
			var answered atomic.Int64
			var clients sync.WaitGroup
			for range 16 {
				conn := w.dial()
				if cert != nil {
					conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
				}
				clients.Go(func() {
					for get(conn, "/") == nil {
						answered.Add(1)
						time.Sleep(50 * time.Microsecond) // so that some connections are idle
					}
				})
			}
			fresh := w.dial() // sends nothing
			w.await("load", func() bool { return answered.Load() > 100 })
			ctx, cancel := context.WithTimeout(context.Background(), failsafe)
			w.l.Quiesce(ctx)
			if err := w.server.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			clients.Wait()
			if s, a := w.served.Load(), answered.Load(); s != a {
				t.Errorf("%s, round %d: %d requests were served and %d answered", name, round, s, a)
			}
			if !isOver(fresh) {
				t.Errorf("%s, round %d: a connection is left", name, round)
			}
			w.await("no connection is counted", func() bool { return w.l.Open() == 0 })
		}
	}
}

// TestAStopWaitsForRequestsAlone: an idle connection and one that has sent nothing end at once, and the request in
// flight is answered.
func TestAStopWaitsForRequestsAlone(t *testing.T) {
	w := newWorld(t, 10, nil)
	idle, fresh, busy := w.dial(), w.dial(), w.dial()
	w.must(get(idle, "/"))
	io.WriteString(busy, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	w.await("one request", func() bool {
		w.l.mu.Lock()
		defer w.l.mu.Unlock()
		return w.l.idle.len == 1 && w.l.fresh.len == 1 && w.l.open == 3
	})
	w.l.Quiesce(t.Context())
	if !isOver(idle) || !isOver(fresh) {
		t.Error("a connection without a request is still open")
	}
	stopped := make(chan error)
	go func() { stopped <- w.server.Shutdown(context.Background()) }()
	w.gate <- struct{}{}
	if err := errors.Join(answer(busy), <-stopped); err != nil {
		t.Error(err)
	}
}

// TestAProbeReachesTheServerWhenTheLimitIsReached, and finds one that does not accept.
func TestAProbeReachesTheServerWhenTheLimitIsReached(t *testing.T) {
	w := newWorld(t, 1, nil)
	busy := w.dial()
	io.WriteString(busy, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	w.await("one request", func() bool { w.l.mu.Lock(); defer w.l.mu.Unlock(); return w.l.active.len == 1 })
	conn, err := w.l.Probe(t.Context())
	w.must(err)
	defer conn.Close()
	w.must(get(conn, "/"))
	w.gate <- struct{}{}
	w.must(answer(busy))

	hung := New(w.l.inner, Config{Max: 1}) // no server accepts from it
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := hung.Probe(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that accepts nothing: %v", err)
	}
	hung.close()
}

// TestTLSToThePlainPortIsALineAtDebug, one for each connection.
func TestTLSToThePlainPortIsALineAtDebug(t *testing.T) {
	w := newWorld(t, 10, nil)
	if _, err := tls.Dial("tcp", w.l.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a plain server spoke TLS")
	}
	if n := strings.Count(w.log.String(), `level=DEBUG msg="a client speaks TLS to the port for plain http`); n != 1 {
		t.Errorf("%d lines: %s", n, w.log.String())
	}
}

// TestABodyThatIsNotReadKeepsNoPlace: the answer comes first, and the connection ends although the rest of the body does not
// come.
func TestABodyThatIsNotReadKeepsNoPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, nil)
	for _, header := range []string{
		"Content-Length: 100", "Content-Length: 5", "Content-Length: 100000000", "Transfer-Encoding: chunked",
		"Expect: 100-continue\r\nContent-Length: 100",
	} {
		conn := w.dial()
		fmt.Fprintf(conn, "POST /unread HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n1", header)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || !resp.Close {
			t.Errorf("%s: %v, %v", header, resp, err)
			continue
		}
		if text, err := io.ReadAll(resp.Body); string(text) != "ok" || err != nil {
			t.Errorf("%s: %q, %v", header, text, err)
		}
		if !isOver(conn) {
			t.Errorf("%s: the connection is still open", header)
		}
	}
	w.await("no connection", func() bool { return w.l.Open() == 0 })
	conn := w.dial()
	for range 2 { // a body that is read keeps the connection
		fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345")
		w.must(answer(conn))
	}
}

// TestAListenerCanBeClosedAgain: http.Server.Shutdown would return an error, which looks like a request that did not end.
func TestAListenerCanBeClosedAgain(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(inner, Config{Max: 1, Log: slog.New(slog.DiscardHandler)})
	l.Quiesce(t.Context())
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
