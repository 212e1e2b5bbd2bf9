package browser

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

const (
	audience = "orders"
	client   = "web"
	password = "correct horse battery staple"

	// tokenLife is longer than a test takes. A test that waits for the expiry sets briefLife.
	tokenLife, briefLife = time.Hour, time.Second
)

// hosts are the names of the servers, in one scheme. Ports differ, so each is an origin of its
// own. app, sameSite and the token server are one site; crossSite is another (RFC 6265bis,
// section 5.2).
type hosts struct{ scheme, id, api, app, sameSite, crossSite string }

var (
	loopback = hosts{"http", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "localhost"}
	secure   = hosts{"https", "id.keymill.test", "api.keymill.test", "app.keymill.test", "shop.keymill.test", "evil.test"}
)

// A world is the browser and all servers that a page uses, in one scheme.
type world struct {
	hosts   hosts
	browser *browser
	server  *server.Server
	proxy   *recorder
	api     *api

	// The origins that serve the same page. The client lists only app.
	app, sameSite, crossSite string
	plain                    string // app without TLS; "" if the scheme is http
}

func newWorld(t *testing.T, h hosts) *world {
	t.Helper()
	if _, err := os.Stat(filepath.Join("page", "node_modules", "@vue", "runtime-dom")); err != nil {
		missing(t, "the page's npm packages")
	}
	c := newCertificate(t, h.id, h.api, h.app, h.sameSite, h.crossSite)
	w := &world{hosts: h, browser: startBrowser(t, c.spki), proxy: &recorder{}, api: &api{}}
	issuer := serve(t, h.scheme, h.id, c, w.proxy)
	w.server = server.Start(t, server.Options{
		Issuer: issuer,
		Config: "session.client: " + client + "\nhttp.trusted_proxies: [127.0.0.1/32]",
	})
	w.proxy.forward(t, w.server.URL)
	w.server.Run(t, "audience", "add", audience, "--alg", "EdDSA", "--ttl", tokenLife.String())

	apiURL := serve(t, h.scheme, h.api, c, w.api)
	page := pageHandler(issuer, apiURL)
	w.app = serve(t, h.scheme, h.app, c, page)
	w.sameSite = serve(t, h.scheme, h.sameSite, c, page)
	w.crossSite = serve(t, h.scheme, h.crossSite, c, page)
	if h.scheme == "https" {
		w.plain = serve(t, "http", h.app, c, page)
	}
	w.api.trust(t, issuer, dialer(c), w.app, w.sameSite)
	w.server.Run(t, "client", "add", client, "--public",
		"--grant", "refresh_token", "--audience", audience, "--origin", w.app)
	return w
}

// serve serves h at the host name and returns the origin.
func serve(t *testing.T, scheme, name string, c certificate, h http.Handler) string {
	t.Helper()
	ts := httptest.NewUnstartedServer(h)
	ts.Config.ErrorLog = log.New(io.Discard, "", 0) // a browser that closes a connection is no error
	if scheme == "https" {
		ts.TLS = &tls.Config{Certificates: []tls.Certificate{c.tls}}
		ts.EnableHTTP2 = true
		ts.StartTLS()
	} else {
		ts.Start()
	}
	t.Cleanup(ts.Close)
	_, port, err := net.SplitHostPort(ts.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return scheme + "://" + net.JoinHostPort(name, port)
}

// dialer returns a client that resolves every name to the loopback address, as the browser does,
// and trusts the authority of the test.
func dialer(c certificate) *http.Client {
	return &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: c.roots},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
	}}
}

// pageHandler serves page/ and config.js, which a real build would write: the URLs of the token
// server and the API.
func pageHandler(issuer, api string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("page")))
	mux.HandleFunc("GET /config.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		config, err := json.Marshal(map[string]string{"issuer": issuer, "api": api})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "export default %s;\n", config)
	})
	return mux
}

// addUser adds a user with the constant password.
func (w *world) addUser(t *testing.T, name string) {
	t.Helper()
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "user", "add", name, "--password-stdin")
	cmd.Env = append(server.Environment(), "KEYMILL_DATA="+w.server.Data)
	cmd.Stdin = strings.NewReader(password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("user add: %v\n%s", err, out)
	}
}

// A session is a row of `session list`.
type session struct {
	State      string `json:"state"`
	Generation int    `json:"generation"`
	Shared     bool   `json:"shared"`
}

// session returns the only session of a user.
func (w *world) session(t *testing.T, user string) session {
	t.Helper()
	var all []session
	w.server.RunJSON(t, &all, "session", "list", "--user", user)
	if len(all) != 1 {
		t.Fatalf("%s has %d sessions, want 1: %+v", user, len(all), all)
	}
	return all[0]
}
