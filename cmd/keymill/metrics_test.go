package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// startMonitored starts a server with metrics and returns the address of their listener.
func (p *place) startMonitored() (c *child, metrics string) {
	p.t.Helper()
	c = p.startWith(append(p.env(), "KEYMILL_METRICS_LISTEN=127.0.0.1:0"), p.serveArgs()...)
	_, rest, _ := strings.Cut(c.errs.String(), `msg="serving metrics" metrics=`)
	metrics, _, _ = strings.Cut(strings.TrimSpace(rest), "\n")
	return c, metrics
}

func get(url string) (status int, body string) {
	r, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

// TestTheMetricsListenerBearsBadClients: connections that hang before and within a request, scrapers that
// do not read, headers and bodies that are too large. Each is answered with 4xx or is closed, few are open at a time, and both
// listeners serve in the meantime.
func TestTheMetricsListenerBearsBadClients(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, metrics := p.startMonitored()
	dial := func(text string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", metrics)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(failsafe))
		io.WriteString(conn, text) // the server may close it before the end
		return conn
	}
	var hanging []net.Conn
	for range 100 {
		hanging = append(hanging, dial(""), dial("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "))
		scraper := dial("")
		scraper.(*net.TCPConn).SetReadBuffer(1 << 10)
		io.WriteString(scraper, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 20))
		hanging = append(hanging, scraper)
	}
	for what, tt := range map[string]struct{ request, want string }{
		"a large header":      {"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("a", 1<<20), "HTTP/1.1 431 "},
		"many headers":        {"GET /metrics HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Many: a\r\n", 10_000), "HTTP/1.1 431 "},
		"a long path":         {"GET /" + strings.Repeat("a", 1<<20), "HTTP/1.1 4"},
		"a body":              {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc", "HTTP/1.1 405 "},
		"a body in chunks":    {"PUT /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "HTTP/1.1 405 "},
		"another method":      {"METRICS /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 "},
		"another protocol":    {"\x16\x03\x01\x02\x00\x01\r\n\r\n", "HTTP/1.1 400 "},
		"two hosts":           {"GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "HTTP/1.1 400 "},
		"the whole server":    {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 40"},
		"a proxy's request":   {"CONNECT id.example.com:443 HTTP/1.1\r\nHost: id.example.com\r\n\r\n", "HTTP/1.1 40"},
		"another path":        {"GET /token HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		"a path that climbs":  {"GET /metrics/../token HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		"a path with a query": {"GET /metricsx?/metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
	} {
		line := make([]byte, len(tt.want))
		if _, err := io.ReadFull(dial(tt.request), line); err != nil || string(line) != tt.want {
			t.Errorf("%s: %q, %v, want %q", what, line, err, tt.want)
		}
	}
	if status, body := get(c.url("/readyz")); status != 200 {
		t.Errorf("the public listener answers %d %s", status, body)
	}
	if status, body := get("http://" + metrics + "/readyz"); status != 200 {
		t.Errorf("the metrics listener answers %d %s", status, body)
	}
	var open int
	scraped := func() bool { // 429 until the scrapers' requests are forgotten
		status, body := get("http://" + metrics + "/metrics")
		_, rest, _ := strings.Cut(body, "\nprocess_open_fds ")
		fmt.Sscan(rest, &open)
		return status == 200
	}
	if !eventually(failsafe, scraped) || open > 100 { // at most 50 of them are connections to metrics.listen
		t.Errorf("no scrape beside the others, or %d open files", open)
	}
	for _, conn := range hanging {
		conn.Close()
	}
	if !eventually(failsafe, func() bool { return scraped() && open < 40 }) {
		t.Errorf("%d files are open after the clients have gone", open)
	}
}

// TestMetricsAreOffUnlessTheyAreConfigured: no listener and no line, and no path of the public listener.
func TestMetricsAreOffUnlessTheyAreConfigured(t *testing.T) {
	t.Parallel()
	c := newPlace(t).start()
	if log := c.errs.String(); strings.Contains(log, "metrics") {
		t.Error(log)
	}
	if status, body := get(c.url("/metrics")); status != 404 {
		t.Errorf("%d %s", status, body)
	}
}
