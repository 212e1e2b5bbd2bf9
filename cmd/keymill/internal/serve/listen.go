package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/connections"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

// listen takes the public port before the store is opened, so that a port in use is found
// while nothing has changed on disk. Early connections wait in the backlog.
func (s *server) listen() (net.Listener, error) {
	c := s.config
	if l, err := s.passed(); l != nil || err != nil {
		return l, err
	}
	return listenAt(c, "listen", c.Listen)
}

// listenAt takes the port of an address that a setting has.
func listenAt(c *config.Config, key, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	err = c.SettingError(key, "cannot listen on %s: %v", address, err)
	if hint := listenHint(c, key, errno); hint != "" {
		return nil, terminal.WithHint(err, "%s", hint)
	}
	return nil, err
}

// listenHint says what to do about an error of listening, or returns "".
func listenHint(c *config.Config, key string, errno syscall.Errno) string {
	switch errno {
	case syscall.EADDRINUSE:
		return portHint(c, key)
	case syscall.EACCES, syscall.EPERM:
		return "a port below 1024 needs the capability CAP_NET_BIND_SERVICE, or keymill.socket of systemd (see docs/operate.md); or choose a higher port"
	case syscall.EADDRNOTAVAIL:
		return `no interface of this machine has the address; choose one that "ip address" lists, or 0.0.0.0 for all`
	}
	return ""
}

// passed returns the socket that systemd has opened in place of listen, or nil if there is none.
func (s *server) passed() (net.Listener, error) {
	l, err := s.manager.Listener()
	if l == nil || err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(l.Addr().String())
	if s.config.Dev && !jwks.IsLoopback(host) {
		l.Close()
		return nil, fmt.Errorf("--dev listens on loopback only, and the socket of systemd has the address %s", l.Addr())
	}
	s.log.Info("systemd has opened the public address; the setting listen is not used", "listen", l.Addr().String())
	return l, nil
}

// portHint says who has the port. The server of the same data directory answers on its admin socket.
func portHint(c *config.Config, key string) string {
	socket := c.Path("admin.sock")
	if conn, err := DialAdmin(context.Background(), socket); err == nil {
		conn.Close()
		return fmt.Sprintf("a Keymill server of the same data directory is running, because %s answers; stop it first", socket)
	}
	choose := "--listen HOST:PORT"
	if key != "listen" {
		choose = key
	}
	return "another program has the port; stop it, or choose another with " + choose
}

// Limits of every listener. docs/operate.md has them in a table, and a test compares it.
const (
	readHeaderTime = 5 * time.Second // also of a TLS handshake
	readTime       = 10 * time.Second
	writeTime      = 30 * time.Second
	idleTime       = 120 * time.Second
	maxHeaderBytes = 16 << 10

	maxStreams     = 100      // requests at a time on one connection of HTTP/2
	streamBytes    = 64 << 10 // that one of them can send before it is read
	reservedFiles  = 200      // descriptors that are not connections: the store, sockets, the webhook's connections
	leastPermitted = 10       // connections, whatever the system allows
)

func (s *server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: streamBytes, MaxReceiveBufferPerConnection: 2 * streamBytes,
			MaxReadFrameSize: 16 << 10, SendPingTimeout: readTime, PingTimeout: readTime, WriteByteTimeout: writeTime,
		},
		// net/http would answer "OPTIONS *" itself and would not check the Host.
		DisableGeneralOptionsHandler: true,
		// Most of these are clients that hang up in a handshake. An operator cannot act on them.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// publicServer returns the server of the public listener, and watches its connections.
func (s *server) publicServer() *http.Server {
	s.conns = connections.New(s.public, connections.Config{
		Max: s.permitted(), TLS: s.tls != nil, Log: s.log, Hint: "raise http.max_connections, or find out who holds them",
	})
	return s.watched(s.conns, s.endpoints.Public())
}

// watched returns a server of h whose connections conns bounds.
func (s *server) watched(conns *connections.Listener, h http.Handler) *http.Server {
	out := s.httpServer(conns.Handler(h))
	out.ConnState, out.ConnContext = conns.ConnState, conns.ConnContext
	return out
}

// servePublic serves until the listener is closed: TLS with HTTP/2 if there is a certificate, or else plain http.
func (s *server) servePublic(h *http.Server) error { return s.serveOn(s.conns, h) }

// serveOn serves connections as servePublic does.
func (s *server) serveOn(conns *connections.Listener, h *http.Server) error {
	if s.tls == nil {
		return h.Serve(conns)
	}
	h.TLSConfig = s.tls.TLSConfig()
	return h.ServeTLS(conns, "", "") // the files are in TLSConfig
}

// permitted returns http.max_connections, or less if the process may not open as many files.
func (s *server) permitted() int {
	wanted := s.config.MaxConnections
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return wanted
	}
	reserved := uint64(reservedFiles)
	if s.verify != nil {
		reserved += maxVerifyConnections
	}
	fits := permittedBy(limit.Cur, reserved, wanted)
	if fits < wanted && s.config.IsSet("http.max_connections") {
		s.log.Warn("the system allows fewer connections than http.max_connections", "connections", fits, "open_files", limit.Cur,
			"type", "raise LimitNOFILE= in the unit, or lower http.max_connections")
	}
	return fits
}

func permittedBy(files, reserved uint64, wanted int) int {
	if files >= uint64(wanted)+reserved {
		return wanted
	}
	return max(int(files)-int(reserved), leastPermitted)
}

// works sends a request for /healthz to the public server itself. It does not go through the network, so neither
// a full backlog nor the limit of connections is taken for a server that hangs. /healthz does not wait for the store.
func (s *server) works(ctx context.Context) error {
	if err := s.file.Status().Failed; err != nil {
		return err
	}
	conn, err := s.conns.Probe(ctx)
	if err != nil {
		return fmt.Errorf("the public listener accepts no connection: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if s.tls != nil {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // it is this process
	}
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return fmt.Errorf("the public listener does not read: %w", err)
	}
	answer := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("the public listener gives no answer: %w", err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 ") {
		return fmt.Errorf("the public listener answers %q", answer)
	}
	return nil
}
