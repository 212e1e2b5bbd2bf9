package connections

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// quiet is how long nothing must have come on a connection that is closed although bytes came after its last
// answer: HTTP/2 has frames that belong to no request, and an attacker can send half of a line.
const quiet = time.Second

// A conn is a connection of a Listener.
type conn struct {
	net.Conn
	l *Listener

	reads, writes deadline
	reading       atomic.Bool // the server waits for bytes, so it has worked on all that it has read

	// Its place in one of the queues of l; owned by l.mu, as is forgotten.
	place     place
	since     time.Time // when it came into this queue; one of HTTP/1.1 that is idle keeps the time when it became active
	forgotten bool      // it is no longer counted

	mu       sync.Mutex
	begun    bool // bytes were read
	http2    bool
	heard    time.Time // when bytes came that no answer followed; zero if none did
	run      time.Time // when the first of them came without a quiet second since
	gone     bool      // ended by the Listener
	working  int       // requests that are whole and not answered
	answered time.Time // when an answer was last written
	told     time.Time // from when on answers tell the client to use a new connection; zero if they do not
}

// newConn returns a conn that is in no queue.
func (l *Listener) newConn(inner net.Conn) *conn {
	return &conn{
		Conn: inner, l: l,
		reads:  deadline{set: inner.SetReadDeadline, began: l.began},
		writes: deadline{set: inner.SetWriteDeadline, began: l.began},
	}
}

// move puts c at the end of a queue and takes it out of the one where it is.
func (c *conn) move(to *queue) {
	c.leave()
	to.add(c)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return errors.Join(c.reads.want(t), c.writes.want(t)) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.reads.want(t) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.writes.want(t) }

// Read reads from the network. After the Listener has ended the connection it returns no byte, also if
// some came at that instant: a request is either served or never seen.
func (c *conn) Read(p []byte) (n int, err error) {
	c.reading.Store(true)
	err = c.reads.do(func() error {
		n, err = c.Conn.Read(p)
		return err
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return 0, net.ErrClosed
	}
	c.reading.Store(false)
	if n > 0 {
		now := c.l.now()
		if now.Sub(c.heard) >= quiet {
			c.run = now
		}
		c.heard = now
		if !c.begun {
			c.begun = true
			c.look(p[:n])
		}
	}
	return n, err
}

// look says at the level debug that a client speaks TLS to a server that does not.
func (c *conn) look(first []byte) {
	const handshake = 0x16 // RFC 8446, section 5.1
	if !c.l.cfg.TLS && first[0] == handshake {
		c.l.cfg.Log.Debug("a client speaks TLS to the port for plain http; set tls.cert_file and tls.key_file, or use a proxy", "from", c.RemoteAddr().String())
	}
}

// Write writes an answer. What comes after it belongs to the next request. With HTTP/2 requests and answers
// overlap, so only a quiet connection is known to have none.
func (c *conn) Write(p []byte) (written int, err error) {
	c.mu.Lock()
	if !c.http2 {
		c.heard = time.Time{}
	}
	c.mu.Unlock()
	err = c.writes.do(func() error {
		n, err := c.Conn.Write(p[written:])
		written += n
		return err
	})
	return written, err
}

func (c *conn) setHTTP2(is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.http2 = is
}

func (c *conn) isHTTP2() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.http2
}

// CloseWrite sends the end of what is written. net/http does so before it closes a connection whose request it
// has not read to its end, so that the client gets the answer.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
