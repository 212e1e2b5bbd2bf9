package postgrestest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Proxy stands between clients and a server. It can cut connections, keep answers back, and make the way longer.
type Proxy struct {
	listener net.Listener
	server   string
	delay    time.Duration // each way
	deaf     atomic.Bool   // answers are kept back
	mu       sync.Mutex
	open     map[net.Conn]net.Conn // client → server; guarded by mu
}

// Proxy starts a proxy until the test ends.
func (c *Cluster) Proxy(t testing.TB) *Proxy {
	t.Helper()
	p, err := NewProxy(c.Address(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// NewProxy starts a proxy to an address. Bytes take delay longer, each way.
func NewProxy(server string, delay time.Duration) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return NewProxyAt(listener, server, delay), nil
}

// NewProxyAt is NewProxy for what arrives at a listener, which the proxy closes.
func NewProxyAt(listener net.Listener, server string, delay time.Duration) *Proxy {
	p := &Proxy{listener: listener, server: server, delay: delay, open: map[net.Conn]net.Conn{}}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

// Addr returns where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// URL returns the URL of a database for Role.
func (p *Proxy) URL(database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s", Role, p.listener.Addr(), database)
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Cut()
}

// Deafen keeps answers back from now on, or no longer. Those that were kept back are lost.
func (p *Proxy) Deafen(deaf bool) { p.deaf.Store(deaf) }

// Cut keeps answers back for up to 3 ms and then cuts all connections, so that requests are done whose
// answers are lost. It returns how many connections there were.
func (p *Proxy) Cut() int {
	p.deaf.Store(true)
	time.Sleep(rand.N(3 * time.Millisecond))
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.open)
	for client, server := range p.open {
		client.Close()
		server.Close()
		delete(p.open, client)
	}
	p.deaf.Store(false)
	return n
}

func (p *Proxy) serve(client net.Conn) {
	up, err := net.Dial("tcp", p.server)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.open[client] = up
	p.mu.Unlock()
	pass := p.pass
	if p.delay > 0 {
		pass = p.passLate
	}
	go pass(up, client, nil)
	pass(client, up, &p.deaf)
	p.mu.Lock()
	delete(p.open, client)
	p.mu.Unlock()
}

// pass copies from one connection to another one, unless it is deaf.
func (p *Proxy) pass(to, from net.Conn, deaf *atomic.Bool) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if deaf != nil && deaf.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// passLate copies what arrives once the delay is over.
func (p *Proxy) passLate(to, from net.Conn, _ *atomic.Bool) {
	defer from.Close()
	type packet struct {
		bytes []byte
		due   time.Time
	}
	packets := make(chan packet, 1024)
	defer close(packets)
	go func() {
		defer to.Close()
		for next := range packets {
			time.Sleep(time.Until(next.due))
			if _, err := to.Write(next.bytes); err != nil {
				from.Close()
			}
		}
	}()
	for {
		b := make([]byte, 32<<10)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		packets <- packet{b[:n], time.Now().Add(p.delay)}
	}
}
