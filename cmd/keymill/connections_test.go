package main

import (
	"bufio"
	"fmt"
	"io"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// hold opens connections that have had one answer and stay open.
func hold(t *testing.T, address string, n int) (open []net.Conn) {
	t.Helper()
	for range n {
		conn := dialTo(t, address)
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("connection %d: %v", len(open)+1, err)
		}
		io.Copy(io.Discard, resp.Body)
		open = append(open, conn)
	}
	return open
}

// TestHealthChecksGetThroughWhenAllConnectionsAreTaken: by the setting, and by the files that the process may open.
func TestHealthChecksGetThroughWhenAllConnectionsAreTaken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		files, most string
		hold        int
		warns       bool
	}{
		"the setting":    {"4096", "30", 60, false},
		"the open files": {"260", "", 120, false},
		"both":           {"260", "5000", 120, true},
	} {
		p := newPlace(t)
		env := p.env()
		if tt.most != "" {
			env = append(env, "KEYMILL_HTTP_MAX_CONNECTIONS="+tt.most)
		}
		c := &child{t: t, out: &terminaltest.Buffer{}, errs: &terminaltest.Buffer{}, ended: make(chan struct{})}
		script := "ulimit -n " + tt.files + `; exec "$@"`
		c.cmd = exec.Command("/bin/bash", append([]string{"-c", script, "sh", p.binary}, p.firstStart(p.serveArgs())...)...)
		c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = env, c.out, c.errs
		p.launch(c)
		c.logged("msg=serving listen=", 1)
		_, rest, _ := strings.Cut(c.errs.String(), "msg=serving listen=")
		c.address, _, _ = strings.Cut(rest, " ")
		hold(t, c.address, tt.hold)
		if out, errs, code := p.runWith(environment(), "healthcheck", "--listen", c.address); code != 0 || out != "ready\n" {
			t.Errorf("%s: code %d, %q, %q", name, code, out, errs)
		}
		p.must(nil, "healthcheck", "--data", p.data)
		log := c.errs.String()
		if n := strings.Count(log, `level=WARN msg="the limit of connections is reached`); n != 1 {
			t.Errorf("%s: %d lines about the limit:\n%s", name, n, log)
		}
		if warns := strings.Contains(log, `msg="the system allows fewer connections than http.max_connections" connections=60`); warns != tt.warns {
			t.Errorf("%s: warns %v:\n%s", name, warns, log)
		}
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 0 {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
}

// TestABodyForAPathWithoutOneIsAnsweredAtOnce, on the public address and on that of metrics: the answer says that the
// connection ends, and the rest of the body is not awaited.
func TestABodyForAPathWithoutOneIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	c, metrics := newPlace(t).startMonitored()
	for _, tt := range []struct{ address, request, want string }{
		{metrics, "POST /metrics", "405 "}, {metrics, "GET /metrics", "200 "}, {metrics, "PUT /healthz", "405 "}, {metrics, "GET /readyz", "200 "},
		{metrics, "POST /nowhere", "404 "}, {c.address, "POST /healthz", "405 "}, {c.address, "GET /readyz", "200 "},
		{c.address, "POST /nowhere", "404 "}, {c.address, "POST /.well-known/jwks.json", "405 "}, {c.address, "GET /.well-known/jwks.json", "200 "},
		{c.address, "PUT /token", "405 "},
	} {
		conn := dialTo(t, tt.address)
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1", tt.request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || !resp.Close || !strings.HasPrefix(resp.Status, tt.want) {
			t.Errorf("%s: %v, %v, want %s and the end of the connection", tt.request, resp, err, tt.want)
		}
	}
}
