package endpoint

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint/admin"
	"keymill/issuer/endpoint/keyset"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// A world is a Server with a real store, real keys and both listeners.
type world struct {
	t         *testing.T
	url       string        // the issuer
	file      *bolt.Store   // the store below the tags
	store     storage.Store // keys.Store()
	counted   countedStore  // the same, which the issuer uses
	keys      *keystore.Rings
	issuer    *issuer.Issuer
	server    *Server
	public    *httptest.Server // nil in a bubble
	base      string           // URL of the public listener
	http      *http.Client     // of the public listener
	admin     *http.Client     // over the Unix socket
	log       *logBuffer
	storeFail error
	secret    string // of client "billing": audience "orders" (EdDSA), scopes read and write
	path      string
}

const (
	testIssuer    = "https://auth.example.com"
	privateIssuer = "http://10.0.0.5:8420" // opened with insecure: true
)

// A countedStore counts transactions, and fails when a test says so.
type countedStore struct {
	storage.Store
	views, updates atomic.Int64
	failUpdates    atomic.Pointer[error]
	viewed         func(n int64) // called after the nth View, if it is set

	cut  atomic.Bool                    // nothing reaches the store
	away atomic.Pointer[storage.Status] // what the last transaction found, as a store on the network tells
}

// reach notes whether the store can be reached.
func (s *countedStore) reach() error {
	if !s.cut.Load() {
		s.away.Store(nil)
		return nil
	}
	err := fmt.Errorf("%w: dial tcp 10.0.0.9:5432: connection refused", storage.ErrUnavailable)
	s.away.CompareAndSwap(nil, &storage.Status{Away: err, Since: time.Now()})
	return err
}

func (s *countedStore) Status() storage.Status {
	if away := s.away.Load(); away != nil {
		return *away
	}
	return s.Store.Status()
}

func (s *countedStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	n := s.views.Add(1)
	if err := s.reach(); err != nil {
		return err
	}
	err := s.Store.View(ctx, fn)
	if s.viewed != nil {
		s.viewed(n)
	}
	return err
}

func (s *countedStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	s.updates.Add(1)
	if err := s.reach(); err != nil {
		return err
	}
	if err := s.failUpdates.Load(); err != nil {
		return *err
	}
	return s.Store.Update(ctx, fn)
}

// logBuffer collects what the server logs, at every level.
type logBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	flush func() // waits for lines that another goroutine writes after the answer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns the lines of all requests that were answered.
func (l *logBuffer) String() string {
	if l.flush != nil {
		l.flush()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var testKeys = keystore.Config{
	Algorithms: []string{"RS256", "EdDSA"}, RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute,
}

// seed makes one store with its keys for all tests of this run; each works on a copy,
// because making RSA keys takes longer than the tests.
var seed = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "seed")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "keymill.db")
	store, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return nil, err
	}
	if _, err = keystore.Create(context.Background(), store, testKeys, "test", "test"); err != nil {
		return nil, err
	}
	if _, err = keystore.Open(context.Background(), store, testKeys); err != nil {
		return nil, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// newWorld makes a world of issuer testIssuer with both login endpoints for client "web", which
// withAlice adds.
func newWorld(t testing.TB) *world {
	return newWorldAt(t, testIssuer)
}

func newWorldAt(t testing.TB, url string, change ...func(*Config)) *world {
	t.Helper()
	b, err := seed()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{url: url, log: &logBuffer{}, path: filepath.Join(t.TempDir(), "keymill.db")}
	w.t, _ = t.(*testing.T)
	if err := os.WriteFile(w.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open(t, testKeys, change...)
	w.public = httptest.NewServer(w.server.Public())
	t.Cleanup(w.public.Close)
	w.base, w.http = w.public.URL, w.public.Client()
	w.admin = serveAdmin(t, w.server)
	w.secret = w.seedRecords(t, "RS256")
	return w
}

// open opens the store at w.path and makes a Server without listeners.
func (w *world) open(t testing.TB, cfg keystore.Config, change ...func(*Config)) {
	t.Helper()
	var err error
	if w.file, err = bolt.Open(w.path, bolt.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.file.Close() })
	keys := keyset.New(cfg.MaxAge)
	cfg.Changed = keys.Publish
	if _, err := keystore.Create(t.Context(), w.file, cfg, "test", "test"); err != nil && !errors.Is(err, keystore.ErrExists) {
		t.Fatal(err)
	}
	if w.keys, err = keystore.Open(t.Context(), storagetest.RerunningIfAsked(w.file), cfg); err != nil {
		t.Fatal(err)
	}
	w.store = w.keys.Store()
	w.counted.Store = w.store
	if w.issuer, err = issuer.Open(t.Context(), issuer.Config{URL: w.url, Insecure: w.url == privateIssuer, Store: &w.counted, Keys: w.keys}); err != nil {
		t.Fatal(err)
	}
	c := Config{
		Issuer: w.issuer, Keys: w.keys, KeySet: keys, Version: "test",
		StoreAway:   func() (time.Time, error) { st := w.counted.Status(); return st.Since, st.Away },
		StoreFailed: func() error { return w.storeFail }, StoreBytes: func() int64 { return w.file.Status().Bytes },
		Backup:    func(context.Context, io.Writer, string) error { return nil },
		SimpleJWT: SimpleJWT{Client: "web"}, Browser: Browser{Client: "web"},
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	if w.server, err = New(c); err != nil {
		t.Fatal(err)
	}
	w.log.flush = func() { w.server.lines.Flush() }
}

func (w *world) seedRecords(t testing.TB, shopAlg string) string {
	t.Helper()
	_, err1 := w.issuer.AddAudience(t.Context(), api.Audience{Name: "orders", Alg: "EdDSA", Scopes: []string{"read", "write"}}, "uid:0")
	_, err2 := w.issuer.AddAudience(t.Context(), api.Audience{Name: "shop", Alg: shopAlg, Scopes: []string{"buy"}}, "uid:0")
	c, err3 := w.issuer.AddClient(t.Context(), api.NewClient{
		ID: "billing", Grants: []string{"client_credentials"}, Audiences: []string{"orders"}, Scopes: []string{"read", "write"},
	}, "uid:0")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return string(c.Secret)
}

// serveAdmin serves the admin API on a Unix socket and returns a client for it.
func serveAdmin(t testing.TB, s *Server) *http.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.Admin(), ConnContext: admin.ConnContext}
	go server.Serve(l)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		os.RemoveAll(dir)
	})
	return &http.Client{Transport: recorded(transport), Timeout: 5 * time.Minute}
}

// client adds a confidential client of audience orders and returns its secret.
func (w *world) client(id string, scopes ...string) string {
	w.t.Helper()
	c, err := w.issuer.AddClient(w.t.Context(), api.NewClient{
		ID: id, Grants: []string{"client_credentials"}, Audiences: []string{"orders"}, Scopes: scopes,
	}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return string(c.Secret)
}

// An answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%v in %q", err, a.body)
	}
	return m
}

func (a answer) code(t *testing.T) string {
	t.Helper()
	m := a.json(t)
	if a.header.Get("Content-Type") == admin.ProblemType {
		m["error"] = m["code"]
	}
	s, _ := m["error"].(string)
	return s
}

func do(t *testing.T, c *http.Client, r *http.Request) answer {
	t.Helper()
	response, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.Close { // the client has removed the header
		response.Header.Set("Connection", "close")
	}
	return answer{response.StatusCode, response.Header, string(b)}
}

// send sends a request to the public listener. Headers are "Name: value".
func (w *world) send(method, path, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	client := *w.http
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return do(w.t, &client, r)
}

const formHeader = "Content-Type: application/x-www-form-urlencoded"

// post sends a form to /token.
func (w *world) post(body string, headers ...string) answer {
	w.t.Helper()
	return w.send("POST", "/token", body, append(headers, formHeader)...)
}

// postForm sends a form to any path.
func (w *world) postForm(path, body string, headers ...string) answer {
	w.t.Helper()
	return w.send("POST", path, body, append(headers, formHeader)...)
}

// good returns a form that gets a token, with more parameters at its end.
func (w *world) good(more ...string) string {
	return strings.Join(append([]string{"grant_type=client_credentials&client_id=billing&client_secret=" + w.secret}, more...), "&")
}

// basic returns the header that RFC 6749, section 2.3.1, describes.
func basic(id, secret string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// keySet fetches the published keys.
func (w *world) keySet() *jwks.Set {
	w.t.Helper()
	set, err := jwks.Parse([]byte(w.send("GET", "/.well-known/jwks.json", "").body))
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

// verify checks a token as a resource server of the audience would.
func (w *world) verify(token, audience string) *jwks.Claims {
	w.t.Helper()
	c, err := jwks.Check(token, w.keySet(), jwks.Expectation{
		Issuer: w.url, Audience: audience, Algorithms: []string{"EdDSA", "RS256"},
	}, time.Now())
	if err != nil {
		w.t.Fatalf("token does not verify: %v", err)
	}
	return c
}

func (w *world) token(a answer) string {
	w.t.Helper()
	s, _ := a.json(w.t)["access_token"].(string)
	if a.status != 200 || s == "" {
		w.t.Fatalf("no token: %d %s", a.status, a.body)
	}
	return s
}

// refusedToken fails unless a is an error of /token with that status and code.
func refusedToken(t *testing.T, what string, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.code(t) != code {
		t.Errorf("%s: got %d %s, want %d %s", what, a.status, a.body, status, code)
	}
	if strings.Contains(a.body, "access_token") {
		t.Errorf("%s: a refusal with a token", what)
	}
}

// askAdmin sends a request to the admin socket.
func (w *world) askAdmin(method, path, body string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://admin"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	return do(w.t, w.admin, r)
}
