package keyset

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
)

// smallBuffers accepts connections whose send buffer is much smaller than the set of this test.
type smallBuffers struct{ net.Listener }

func (s smallBuffers) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// serveLarge serves a set of much more than 100 kB. The channel ended has an entry for each request whose handler has
// returned.
func serveLarge(t *testing.T, withTLS bool) (s *httptest.Server, told chan told, ended chan bool) {
	h, told := follow(t, 1500)
	ended = make(chan bool, 10)
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		ended <- true
	}))
	s.Listener = smallBuffers{s.Listener}
	if s.EnableHTTP2 = withTLS; withTLS {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, told, ended
}

// dialSmall connects with a receive buffer of a few kilobytes.
func dialSmall(t *testing.T, address string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) }); e != nil {
			return e
		}
		return err
	}}
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// wantTold fails unless the request that has ended was told of, or was not.
func wantTold(t *testing.T, told chan told, ended chan bool, want bool) {
	t.Helper()
	<-ended
	select {
	case f := <-told:
		if !want || f.name != "orders-api" {
			t.Errorf("told of %q", f.name)
		}
	default:
		if want {
			t.Error("an answer that was read to its end was not told of")
		}
	}
}

// TestAHangUpInTheBodyIsNoFetch: the client closes the connection after the first part of the body, or resets it.
func TestAHangUpInTheBodyIsNoFetch(t *testing.T) {
	s, told, ended := serveLarge(t, false)
	for _, reset := range []bool{false, true} {
		conn := dialSmall(t, s.Listener.Addr().String())
		if _, err := io.WriteString(conn, "GET "+Path+" HTTP/1.1\r\nHost: x\r\nKeymill-Verifier: "+good+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1000)
		if _, err := io.ReadFull(conn, first); err != nil || !bytes.Contains(first, []byte(`{"keys":[`)) {
			t.Fatalf("%q, %v", first, err)
		}
		if reset {
			if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
		wantTold(t, told, ended, false)
	}
	conn := dialSmall(t, s.Listener.Addr().String())
	if _, err := io.WriteString(conn, "GET "+Path+"?verifier="+good+" HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); err != nil || n < 100_000 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	wantTold(t, told, ended, true)
}

// TestAHangUpBeforeASmallBodyIsNoFetch: the operating system would take the whole body.
func TestAHangUpBeforeASmallBodyIsNoFetch(t *testing.T) {
	h, told := follow(t, 2)
	ended := make(chan bool, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		h.ServeHTTP(w, r)
		ended <- true
	}))
	t.Cleanup(s.Close)
	conn := dialSmall(t, s.Listener.Addr().String())
	if _, err := io.WriteString(conn, "GET "+Path+" HTTP/1.1\r\nHost: x\r\nKeymill-Verifier: "+good+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	wantTold(t, told, ended, false)
}

// TestAnHTTP2StreamThatIsCancelledIsNoFetch: the client resets the stream, and then it closes the whole
// connection. Its window is smaller than the body.
func TestAnHTTP2StreamThatIsCancelledIsNoFetch(t *testing.T) {
	s, told, ended := serveLarge(t, true)
	get := func() (*http.Response, net.Conn) {
		t.Helper()
		conn := dialSmall(t, s.Listener.Addr().String())
		transport := &http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs},
			HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
		}
		t.Cleanup(transport.CloseIdleConnections)
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Keymill-Verifier", good)
		response, err := transport.RoundTrip(r)
		if err != nil || response.ProtoMajor != 2 {
			t.Fatalf("%v, %v", response, err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		return response, conn
	}
	response, _ := get()
	response.Body.Close() // resets the stream
	wantTold(t, told, ended, false)

	response, conn := get()
	conn.Close()
	wantTold(t, told, ended, false)
	response.Body.Close()

	response, _ = get()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n < 100_000 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	response.Body.Close()
	wantTold(t, told, ended, true)
}
