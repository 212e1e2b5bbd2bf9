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

	// tokenLife is longer than any test takes. One that waits for the end makes it brief.
	tokenLife, briefLife = time.Hour, time.Second
)

// hosts are who serves what, in one scheme. Ports differ, so all are origins of their
// own; app, neighbour and the server are one site, and the stranger is another (RFC
// 6265bis, section 5.2).
type hosts struct{ scheme, id, api, app, neighbour, stranger string }

var (
	loopback = hosts{"http", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "localhost"}
	secure   = hosts{"https", "id.keymill.test", "api.keymill.test", "app.keymill.test", "shop.keymill.test", "stranger.test"}
)

// A world is everything that a page meets, in one scheme.
type world struct {
	hosts   hosts
	browser *browser
	server  *server.Server
	front   *front
	api     *api

	// The origins of one and the same page. The client lists app alone.
	app, neighbour, stranger string
	plain                    string // app without TLS; "" where the scheme is http anyway
}

func newWorld(t *testing.T, h hosts) *world {
	t.Helper()
	if _, err := os.Stat(filepath.Join("page", "node_modules", "@vue", "runtime-dom")); err != nil {
		missing(t, "the page's npm packages")
	}
	c := newCertificate(t, h.id, h.api, h.app, h.neighbour, h.stranger)
	w := &world{hosts: h, browser: startBrowser(t, c.spki), front: &front{}, api: &api{}}
	issuer := serve(t, h.scheme, h.id, c, w.front)
	w.server = server.Start(t, server.Options{
		Issuer: issuer,
		Config: "session.client: " + client + "\nhttp.trusted_proxies: [127.0.0.1/32]",
	})
	w.front.forward(t, w.server.URL)
	w.server.Run(t, "audience", "add", audience, "--alg", "EdDSA", "--ttl", tokenLife.String())

	apiURL := serve(t, h.scheme, h.api, c, w.api)
	page := pageHandler(issuer, apiURL)
	w.app = serve(t, h.scheme, h.app, c, page)
	w.neighbour = serve(t, h.scheme, h.neighbour, c, page)
	w.stranger = serve(t, h.scheme, h.stranger, c, page)
	if h.scheme == "https" {
		w.plain = serve(t, "http", h.app, c, page)
	}
	w.api.trust(t, issuer, dialer(c), w.app, w.neighbour)
	w.server.Run(t, "client", "add", client, "--public",
		"--grant", "refresh_token", "--audience", audience, "--origin", w.app)
	return w
}

// serve serves h under name and returns its origin.
func serve(t *testing.T, scheme, name string, c certificate, h http.Handler) string {
	t.Helper()
	ts := httptest.NewUnstartedServer(h)
	ts.Config.ErrorLog = log.New(io.Discard, "", 0) // a browser that hangs up is no news
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

// dialer is a client that finds every name here, as the browser does, and trusts the
// authority of the test.
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

// pageHandler serves page/ and what a build would have put into it: where the token
// server and the API are.
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

// addUser makes a user whose password is password.
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

// A family is a row of session list.
type family struct {
	State      string `json:"state"`
	Generation int    `json:"generation"`
	Shared     bool   `json:"shared"`
}

// family returns the only family of a user.
func (w *world) family(t *testing.T, user string) family {
	t.Helper()
	var all []family
	w.server.RunJSON(t, &all, "session", "list", "--user", user)
	if len(all) != 1 {
		t.Fatalf("%s has %d families, want 1: %+v", user, len(all), all)
	}
	return all[0]
}
