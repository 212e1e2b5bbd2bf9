package healthcheck

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestEachAnswerIsReadyOrOneLineThatSaysWhy.
func TestEachAnswerIsReadyOrOneLineThatSaysWhy(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	asked := ""
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			asked = r.URL.Path
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}
	}
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drip := func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	cut := func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		w.Header().Set("Content-Length", "14")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, tt := range []struct {
		handler    http.HandlerFunc
		tls, live  bool
		url        bool // ask at --url, not at --listen
		path, want string
	}{
		{handler: answer(200), path: "/readyz", want: "ready"},
		{handler: answer(200), url: true, path: "/readyz", want: "ready"},
		{handler: answer(200), live: true, path: "/healthz", want: "alive"},
		{handler: answer(503), path: "/readyz", want: "not ready: http://127.0.0.1:PORT/readyz answered 503"},
		{handler: answer(503), live: true, path: "/healthz", want: "not healthy: http://127.0.0.1:PORT/healthz answered 503 Service Unavailable"},
		{handler: answer(404), path: "/readyz", want: "not healthy: http://127.0.0.1:PORT/readyz answered 404 Not Found"},
		{handler: answer(302), path: "/readyz", want: "not healthy: http://127.0.0.1:PORT/readyz answered 302 Found"},
		{handler: hang, path: "", want: "not healthy: http://127.0.0.1:PORT/readyz gave no answer within 50ms"},
		{handler: drip, path: "/readyz", want: "not healthy: http://127.0.0.1:PORT/readyz gave no answer within 50ms"},
		{handler: cut, path: "/readyz", want: "not healthy: the answer of http://127.0.0.1:PORT/readyz ended early: "},
		{handler: answer(200), tls: true, path: "/readyz", want: "ready"},
		{handler: answer(200), tls: true, url: true, want: "not reachable: https://127.0.0.1:PORT/readyz: "},
	} {
		asked = ""
		s := httptest.NewUnstartedServer(tt.handler)
		c := &Check{Live: tt.live, Timeout: time.Minute}
		if tt.want[:3] == "not" && strings.Contains(tt.want, "within") {
			c.Timeout = 50 * time.Millisecond
		}
		if tt.tls {
			s.StartTLS()
			c.File = filepath.Join(t.TempDir(), "keymill.yaml")
			text := "issuer: https://id.example\ntls: {cert_file: /x, key_file: /y}\nlisten: " + s.Listener.Addr().String() + "\n"
			if err := os.WriteFile(c.File, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			s.Start()
			c.Listen = s.Listener.Addr().String()
		}
		if tt.url {
			c.Listen, c.File, c.URL = "", "", s.URL
		}
		got, err := c.Run(t.Context())
		if tt.tls && tt.url && !strings.Contains(terminal.HintOf(err), "set SSL_CERT_FILE to the file of its certificate; or ask over the admin socket: keymill healthcheck --data DIR") {
			t.Errorf("the hint is %q", terminal.HintOf(err))
		}
		if err != nil {
			got = terminal.Plain(err)
		}
		_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		if want := strings.ReplaceAll(tt.want, "PORT", port); !strings.HasPrefix(got, want) || asked != tt.path {
			t.Errorf("%q at %q, want %q at %q", got, asked, want, tt.path)
		}
		s.CloseClientConnections()
		s.Close()
	}
}

// TestTheAddressIsOneThatReachesTheServer: loopback for every address, and the port that is configured.
func TestTheAddressIsOneThatReachesTheServer(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for listen, want := range map[string]string{
		"":                   "http://127.0.0.1:8420", // the default
		"0.0.0.0:443":        "http://127.0.0.1:443",
		":443":               "http://127.0.0.1:443",
		"[::]:443":           "http://[::1]:443",
		"[::1]:443":          "http://[::1]:443",
		"192.0.2.7:8420":     "http://192.0.2.7:8420",
		"localhost:80":       "http://localhost:80",
		"127.0.0.1:0":        "error: --listen: the port of \"127.0.0.1:0\" is not fixed",
		"127.0.0.1:http":     "error: --listen: \"http\" is not a port: write it as a number, like 127.0.0.1:8420",
		"127.0.0.1:65536":    "error: --listen: \"65536\" is not a port",
		"127.0.0.1":          "error: --listen: \"127.0.0.1\" is not an address",
		"[::ffff:0.0.0.0]:1": "http://127.0.0.1:1",
	} {
		at, err := (&Check{Listen: listen}).find()
		got := at.url
		if err != nil {
			got = "error: " + err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s, want %s", listen, got, want)
		}
	}
	t.Setenv("KEYMILL_LISTEN", "0.0.0.0:9999")
	if at, err := (&Check{}).find(); err != nil || at.url != "http://127.0.0.1:9999" {
		t.Errorf("the variable: %s, %v", at.url, err)
	}
	for url, want := range map[string]string{"https://id.example/": "https://id.example", "https://example.com:8443/auth/v1": "https://example.com:8443/auth/v1", "http://[::1]/auth/": "http://[::1]/auth"} {
		if at, err := (&Check{URL: url}).find(); err != nil || at.url != want {
			t.Errorf("--url %s: %s, %v", url, at.url, err)
		}
	}
	for _, url := range []string{"id.example", "ftp://id.example", "https://id.example/readyz", "https://id.example/auth/healthz", "https://id.example/a%2fb", "https://id.example/a/../b", "https://id.example/a//b", "https://u:p@id.example", "https://id.example?x=1", "https://", "https://u:hunter2@id.example", "https://u:hun@ter2@id.example:x", "u:hunter2@id.example"} {
		if _, err := (&Check{URL: url, Timeout: time.Minute}).Run(context.Background()); err == nil || !strings.Contains(err.Error(), "is not a URL like") || strings.Contains(err.Error(), "ter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
