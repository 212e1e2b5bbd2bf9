package forwardauth

import (
	"bufio"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/pages"
	"keymill/integration_test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// slow keys do not rotate by themselves during a test.
const slow = "keys:\n  algorithms: [EdDSA]\n  rotate_every: 1h\n  propagation: 2s\njwks:\n  max_age: 1s\n"

// A world is a server that proxies ask, with a service behind them.
type world struct {
	*server.Server
	t       *testing.T
	dir     string // of the proxies' files; their user may write there
	socket  string // below a directory of its own
	verify  string // verify.listen: the socket, or an address
	service string // address of the service
	billing server.Client
	sign    func(header, claims map[string]any) string // with a key that was imported

	mu sync.Mutex
	// Of the last request that reached the service; owned by mu.
	received  http.Header
	method    string
	target    string // of the request line
	bodyBytes int
}

// wwwData is the user that runs Debian's nginx. The tests need root to use it.
const wwwData = "www-data"

// newWorld starts a server with verify.listen on the socket, or on a loopback address.
func newWorld(t *testing.T, onSocket bool) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "running the proxies as "+wwwData+" needs root")
	}
	for _, program := range []string{"nginx", "caddy", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, err.Error()+"; run scripts/install-deps")
		}
	}
	w := &world{t: t}
	w.makeDirs()
	if w.verify = "unix:" + w.socket; !onSocket {
		w.verify = w.free()
	}
	w.Server = server.Start(t, server.Options{Config: slow + "verify:\n  listen: " + w.verify})
	for _, audience := range []string{"orders", "shop"} {
		w.Run(t, "audience", "add", audience, "--alg", "EdDSA", "--ttl", "10m", "--scope", "read", "--scope", "write")
	}
	w.billing = w.client("billing", "orders", "read", "write")
	w.importKey()
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.received, w.method, w.target, w.bodyBytes = r.Header.Clone(), r.Method, r.RequestURI, len(body)
		if r.Header.Get("Upgrade") == "websocket" {
			switchProtocols(rw)
		}
	}))
	t.Cleanup(service.Close)
	w.service = service.Listener.Addr().String()
	return w
}

// switchProtocols accepts a WebSocket and closes it.
func switchProtocols(rw http.ResponseWriter) {
	conn, _, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// makeDirs makes the directories of the socket, as docs/verify/nginx.md does, and of the proxies.
func (w *world) makeDirs() {
	w.t.Helper()
	account, err := user.Lookup(wwwData)
	if err != nil {
		w.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	root, err := os.MkdirTemp("", "fa") // t.TempDir is not for other users, and too long for a socket
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.RemoveAll(root) })
	w.dir, w.socket = filepath.Join(root, "proxy"), filepath.Join(root, "socket", "sock")
	for _, err := range []error{
		os.Chmod(root, 0o755),
		os.Mkdir(w.dir, 0o700), os.Chown(w.dir, uid, gid),
		os.Mkdir(filepath.Dir(w.socket), 0o750), os.Chown(filepath.Dir(w.socket), 0, gid), os.Chmod(filepath.Dir(w.socket), 0o750|os.ModeSetgid),
	} {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// client adds a client of one audience.
func (w *world) client(id, audience string, scopes ...string) (c server.Client) {
	w.t.Helper()
	args := []string{"client", "add", id, "--grant", "client_credentials", "--audience", audience}
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	w.RunJSON(w.t, &c, args...)
	return c
}

func (w *world) token(c server.Client, audience string) string {
	w.t.Helper()
	token, err := w.Token(w.t.Context(), c, audience)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// importKey imports a key that this test signs with.
func (w *world) importKey() {
	w.t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join(w.t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.Run(w.t, "key", "import", file, "--kid", "imported", "--until", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	part := func(v map[string]any) string {
		b, err := json.Marshal(v)
		if err != nil {
			w.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	w.sign = func(header, claims map[string]any) string {
		now := time.Now()
		h := map[string]any{"alg": "EdDSA", "kid": "imported", "typ": "at+jwt"}
		c := map[string]any{
			"iss": w.Issuer, "sub": "billing", "client_id": "billing", "aud": "orders", "scope": "read",
			"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": "one",
		}
		maps.Copy(h, header)
		maps.Copy(c, claims)
		text := part(h) + "." + part(c)
		return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(text)))
	}
}

// block returns the first block of a language on a page of docs/verify, with other texts in it.
func (w *world) block(page, language, contains string, replace ...string) string {
	w.t.Helper()
	root, err := server.Root()
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := pages.ReadOne(root, "docs/verify/"+page)
	if err != nil {
		w.t.Fatal(err)
	}
	b, found := p.Find(language, contains)
	if !found {
		w.t.Fatalf("%s has no block of %s with %q", page, language, contains)
	}
	for n := 0; n < len(replace); n += 2 {
		if !strings.Contains(b.Text, replace[n]) {
			w.t.Fatalf("%s: the block of %s has no %q", page, language, replace[n])
		}
	}
	return strings.NewReplacer(replace...).Replace(b.Text)
}

// A proxy is a running program in front of the service.
type proxy struct {
	*world
	name, address string
	log           string // file
}

// run starts a proxy as the user of Debian's nginx, and waits until it accepts connections.
func (w *world) run(name, address string, command ...string) *proxy {
	w.t.Helper()
	p := &proxy{w, name, address, filepath.Join(w.dir, name+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("setpriv", append([]string{"--reuid", wwwData, "--regid", wwwData, "--clear-groups"}, command...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, log, log
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_CONFIG_HOME="+w.dir, "XDG_DATA_HOME="+w.dir)
	running, err := server.Launch(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		running.Close()
		if text, _ := os.ReadFile(p.log); w.t.Failed() {
			w.t.Logf("log of %s:\n%.8000s", name, text)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return p
		}
		select {
		case <-running.Done():
			text, _ := os.ReadFile(p.log)
			w.t.Fatalf("%s has ended:\n%s", name, text)
		default:
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s does not listen on %s", name, address)
		}
	}
}

// write writes a file that the proxies can read.
func (w *world) write(name, text string) (path string) {
	w.t.Helper()
	path = filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) free() string {
	w.t.Helper()
	address, err := freeport.Address()
	if err != nil {
		w.t.Fatal(err)
	}
	return address
}

// nginx starts Debian's nginx with the configuration of a site, as one process.
func (w *world) nginx(name, address, site string) *proxy {
	w.t.Helper()
	var temporary strings.Builder
	for _, of := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "\t%s_temp_path %s/%s-%s;\n", of, w.dir, name, of)
	}
	config := w.write(name+".conf", fmt.Sprintf("daemon off;\nmaster_process off;\npid %s/%s.pid;\nerror_log stderr;\nevents {}\nhttp {\n\taccess_log off;\n%s%s}\n",
		w.dir, name, temporary.String(), site))
	return w.run(name, address, "nginx", "-e", "stderr", "-c", config)
}

// proxies starts the programs with the configurations of the pages. Traefik takes no socket.
func (w *world) proxies() []*proxy {
	w.t.Helper()
	return w.proxiesWith(func(site string) string { return site })
}

// proxiesWith changes the configurations.
func (w *world) proxiesWith(change func(site string) string) []*proxy {
	w.t.Helper()
	first, second := w.free(), w.free()
	all := []*proxy{w.nginx("nginx", first, change(w.nginxSite(first))), w.caddy("caddy", second, change(w.caddyfile(second)))}
	if !strings.HasPrefix(w.verify, "unix:") {
		all = append(all, w.traefik("traefik", w.free(), change))
	}
	return all
}

// nginxSite returns the site of the page at an address, and caddyfile that of Caddy's page.
func (w *world) nginxSite(address string) string {
	return w.block("nginx.md", "nginx", "auth_request",
		"443 ssl http2", address, "\tssl_certificate /etc/ssl/orders.example.com.pem;\n", "", "\tssl_certificate_key /etc/ssl/orders.example.com.key;\n", "",
		"unix:/run/keymill-verify/sock", w.verify, "127.0.0.1:9000", w.service)
}

func (w *world) caddyfile(address string) string {
	return w.block("caddy.md", "caddy", "forward_auth", "orders.example.com {", "http://"+address+" {",
		"unix//run/keymill-verify/sock", strings.Replace(w.verify, "unix:", "unix/", 1), "127.0.0.1:9000", w.service)
}

func (w *world) caddy(name, address, site string) *proxy {
	w.t.Helper()
	file := w.write(name+".caddyfile", "{\n\tadmin off\n\tauto_https off\n}\n"+site)
	return w.run(name, address, "caddy", "run", "--adapter", "caddyfile", "--config", file)
}

// An answer is what a client of a proxy gets, and what the service got; nil if the request did not reach it.
type answer struct {
	status   int
	header   http.Header
	body     string
	received http.Header
}

// ask sends GET of a path with these lines in its header.
func (p *proxy) ask(path string, lines ...string) answer {
	p.t.Helper()
	return p.send("GET "+path, lines, "")
}

// send sends a request byte by byte.
func (p *proxy) send(methodAndPath string, lines []string, body string) answer {
	p.t.Helper()
	p.mu.Lock()
	p.received = nil
	p.mu.Unlock()
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	head := append([]string{methodAndPath + " HTTP/1.1", "Host: " + p.address}, lines...)
	io.WriteString(conn, strings.Join(head, "\r\n")+"\r\n\r\n"+body) // a proxy may close the connection before the end
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		p.t.Fatalf("%s: %.300q: %v", p.name, lines, err)
	}
	text, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	p.mu.Lock()
	defer p.mu.Unlock()
	return answer{r.StatusCode, r.Header, string(text), p.received}
}

func bearer(token string) string { return "Authorization: Bearer " + token }
