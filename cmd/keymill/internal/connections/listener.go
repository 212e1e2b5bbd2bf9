// Package connections bounds the connections of a listener, and ends those that keep others out without losing a request.
//
//	TCP ─▶ accept ─▶ room? ─▶ fresh ──▶ active ◀──▶ idle
//	                  │ no      └────── ended ────────┘
//	                  └─▶ another connection is ended
//
// net/http tells the state of each connection (http.Server.ConnState): fresh until it has read the header of a
// request, active while one is served, idle until the header of the next. Of HTTP/2, a connection is active while it
// has any request.
//
// If the limit is reached, a new connection takes the place of another one, in this order:
//
//   - the oldest that has sent no whole header for a second; a younger one is probably that of a client whose request is
//     under way
//   - the one that has been idle longest
//   - the one that has been active longest without a whole request, for at least a second: the body does not come, or the
//     answer is not read
//
// So clients that hold connections keep no other client away for long, health checks included. A request that is whole is
// worked on and answered, and its connection is not ended for a new one; see Handler. While all connections have such
// requests, a new one waits, and the busy ones end behind their next answer: with "Connection: close", or with GOAWAY of
// HTTP/2. A client of HTTP/2 that sends on after it was told has its connection ended.
//
// A connection without a request is ended here only if no byte of one has been read from it, or if its header has stayed
// incomplete for a second. So a request is served and answered, or its client can send it again.
// http.Server.Shutdown lacks that check: it may close a connection whose request was read at that instant. At a
// stop it finds no idle connection of HTTP/1.1. Those of HTTP/2 are left to it, because it tells their clients.
package connections

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config says what a Listener bounds.
type Config struct {
	Max  int  // connections at a time
	TLS  bool // the server speaks TLS on them
	Log  *slog.Logger
	Hint string // for the line that says that Max is reached
}

// A Listener is a net.Listener for http.Server. Its methods ConnState and ConnContext must be the server's, and the
// server's handler must come from Handler.
type Listener struct {
	inner    net.Listener
	cfg      Config
	accepted chan accepted
	probes   chan net.Conn
	closed   chan struct{}
	close    func() error  // once
	freed    chan struct{} // gets a value when a connection has ended or has become idle
	began    time.Time

	wanted atomic.Bool // the next answer of HTTP/1.1 ends its connection
	dates  dates       // of answers

	mu                  sync.Mutex
	open                int
	fresh, active, idle queue
	nextLine            time.Time // of the log, about Max
	nextScan, nextAsk   time.Time // of all connections
}

type accepted struct {
	conn net.Conn
	err  error
}

// writeBytes of answers wait in the kernel for a client that does not read. By itself the kernel would keep up to
// 4 MB for each connection. An answer is some kilobytes.
const writeBytes = 64 << 10

// lineEvery is how often the log says that Max is reached, while it is.
const lineEvery = time.Minute

// New accepts the connections of inner.
func New(inner net.Listener, cfg Config) *Listener {
	l := &Listener{
		inner: inner, cfg: cfg, began: time.Now(), accepted: make(chan accepted), probes: make(chan net.Conn),
		closed: make(chan struct{}), freed: make(chan struct{}, 1),
	}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		return inner.Close()
	})
	go l.run()
	return l
}

// Accept returns the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case c := <-l.probes:
		return c, nil
	case a := <-l.accepted:
		return a.conn, a.err
	}
}

// now returns the time. It reads one clock of the system, and time.Now reads two: connections ask several times for each
// request.
func (l *Listener) now() time.Time { return l.began.Add(time.Since(l.began)) }

// Addr returns the address.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops accepting. It can be called again: at a stop Quiesce and http.Server.Shutdown both call it.
func (l *Listener) Close() error { return l.close() }

// Open returns how many connections are open.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// run accepts until the listener is closed. An error goes to http.Server, which waits a while after each.
func (l *Listener) run() {
	for {
		c, err := l.inner.Accept()
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			l.evict()
		}
		a := accepted{err: err}
		if err == nil {
			if !l.room() {
				c.Close()
				return
			}
			a.conn = l.add(c)
		}
		select {
		case l.accepted <- a:
		case <-l.closed:
			if c != nil {
				c.Close()
			}
			return
		}
	}
}

// room waits until one more connection may be open. It returns false if the listener is closed.
func (l *Listener) room() bool {
	for l.Open() >= l.cfg.Max {
		l.sayFull()
		if l.evict() {
			continue
		}
		l.ask()
		select {
		case <-l.freed:
		case <-time.After(lookEvery):
		case <-l.closed:
			return false
		}
	}
	l.wanted.Store(false)
	return true
}

func (l *Listener) sayFull() {
	l.mu.Lock()
	now := time.Now()
	due := !now.Before(l.nextLine)
	if due {
		l.nextLine = now.Add(lineEvery)
	}
	l.mu.Unlock()
	if due {
		l.cfg.Log.Warn("the limit of connections is reached; those that are idle or send no whole request are closed for new ones", "connections", l.cfg.Max, "type", l.cfg.Hint)
	}
}

func (l *Listener) add(inner net.Conn) *conn {
	if tcp, ok := inner.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(writeBytes)
	}
	c := l.newConn(inner)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	c.move(&l.fresh)
	c.since = l.now()
	return c
}

// ConnState is for http.Server.
func (l *Listener) ConnState(wrapped net.Conn, state http.ConnState) {
	if state == http.StateNew {
		return // add has put it into its place
	}
	c := unwrap(wrapped)
	if c == nil {
		return // a probe
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateIdle:
		c.move(&l.idle)
		if t, ok := wrapped.(*tls.Conn); ok {
			c.setHTTP2(t.ConnectionState().NegotiatedProtocol == "h2")
			c.since = l.now() // flushTime begins
		}
	case http.StateClosed, http.StateHijacked:
		l.forget(c)
	default:
		c.move(&l.active)
		c.since = l.now()
		return
	}
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// forget takes c out of the count, once.
func (l *Listener) forget(c *conn) {
	c.leave()
	if !c.forgotten {
		c.forgotten = true
		l.open--
	}
}

// freshTime is how long a new connection may take to send its first byte when the server stops.
const freshTime = 250 * time.Millisecond

// Quiesce closes the listener and every connection that has no request. It returns when none is left, or
// when ctx ends.
func (l *Listener) Quiesce(ctx context.Context) {
	l.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.retireAll() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// retireAll ends what has no request, and returns how many connections may become such.
func (l *Listener) retireAll() (left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, resting := range []*queue{&l.idle, &l.fresh} {
		for c := range resting.all() {
			young := resting == &l.fresh && now.Sub(c.since) < freshTime
			if c.isHTTP2() {
				continue
			}
			if !young && c.endIf(now, (*conn).isQuiet) {
				l.forget(c)
			} else {
				left++
			}
		}
	}
	return left
}

// Probe hands the server a connection that does not come from the network, and returns its other end. It finds
// out whether the server accepts and answers, whatever the network and the limit do.
func (l *Listener) Probe(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.probes <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
