package verifiers

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/pages"
	"keymill/integration_test/server"
)

// oauth2Proxy is oauth2-proxy in front of a service that trusts its header.
func oauth2Proxy() library {
	return library{name: "oauth2-proxy", algs: all, sight: seesAFlush, start: startOAuth2Proxy, least: 24 * time.Hour,
		gaps:    []gap{ignoresType, readsLoosely, keepsRevokedKey},
		settled: []gap{takesAnyAlgorithm}}
}

func startOAuth2Proxy(t *testing.T, s settings) (string, error) {
	backend := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"sub": r.Header.Get("X-Forwarded-User")})
	}))
	return runOAuth2Proxy(t, s, backend, "")
}

// runOAuth2Proxy runs it with the file of the page and more lines.
func runOAuth2Proxy(t *testing.T, s settings, backend, more string) (string, error) {
	binary, err := toolOf("oauth2-proxy", "oauth2-proxy")
	if err != nil {
		return "", err
	}
	address, err := freeport.Address()
	if err != nil {
		return "", err
	}
	dir := t.TempDir()
	config, err := blockOf("oauth2-proxy.md", "text", "skip_jwt_bearer_tokens",
		"https://id.example.com", s.issuer, `"orders"`, `"`+s.audience+`"`, `"EdDSA"`, `"`+s.alg+`"`,
		"127.0.0.1:4180", address, "http://127.0.0.1:9000", backend, "/etc/oauth2-proxy", dir)
	if err == nil && s.bare {
		config, err = replaced(config, `oidc_enabled_signing_algs = ["`+s.alg+`"]`, "")
	}
	if err != nil {
		return "", err
	}
	secret, err := blockOf("oauth2-proxy.md", "text", "umask", "/etc/oauth2-proxy", dir)
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("sh", "-c", secret).CombinedOutput(); err != nil {
		return "", fmt.Errorf("the cookie secret: %w: %s", err, out)
	}
	file := filepath.Join(dir, "oauth2-proxy.cfg")
	if err := os.WriteFile(file, []byte(config+more), 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command(binary, "--config", file)
	cmd.Env, cmd.Dir = server.Environment(), dir
	return listening(t, cmd, address)
}

// listening starts a program that listens on an address and returns its URL. It waits until a request without a token gets 401.
func listening(t *testing.T, cmd *exec.Cmd, address string) (string, error) {
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	companion, err := server.Launch(cmd)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() {
		companion.Close()
		if t.Failed() {
			t.Logf("log of %s:\n%.8000s", cmd.Path, log.String())
		}
	})
	url := "http://" + address
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusUnauthorized {
				return url, nil
			}
		}
		select {
		case <-companion.Done():
			return "", fmt.Errorf("%s has ended:\n%s", cmd, log.String())
		default:
		}
	}
	return "", fmt.Errorf("%s did not start in %v: %w", cmd, startLimit, context.DeadlineExceeded)
}

// blockOf returns the block of a page in docs/verify that contains a text, with other texts in it: old, new, …
func blockOf(page, language, contains string, replace ...string) (string, error) {
	root, err := server.Root()
	if err != nil {
		return "", err
	}
	p, err := pages.ReadOne(root, "docs/verify/"+page)
	if err != nil {
		return "", err
	}
	b, found := p.Find(language, contains)
	if !found {
		return "", fmt.Errorf("%s has no block of %s with %q", page, language, contains)
	}
	return replaced(b.Text, replace...)
}

// replaced replaces texts that must be there.
func replaced(text string, replace ...string) (string, error) {
	for n := 0; n < len(replace); n += 2 {
		if !strings.Contains(text, replace[n]) {
			return "", fmt.Errorf("%q is not in %q", replace[n], text)
		}
	}
	return strings.NewReplacer(replace...).Replace(text), nil
}

// A backend is a service that notes the header of the last request.
type backend struct {
	url string
	mu  sync.Mutex
	got http.Header // owned by mu; nil: no request since it was taken
}

func newBackend(t *testing.T) *backend {
	b := &backend{}
	b.url = serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.got = r.Header.Clone()
	}))
	return b
}

func (b *backend) take() http.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.got
	b.got = nil
	return got
}

// usersOf returns the names that a service can read as X-Forwarded-User, in lower case and sorted.
func usersOf(h http.Header) []string {
	var names []string
	for name := range h {
		name = strings.ToLower(name)
		if strings.NewReplacer("_", "-", ".", "-").Replace(name) == "x-forwarded-user" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// get sends GET with header lines, spelled as they are, and follows no redirect.
func get(t *testing.T, url string, lines map[string]string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range lines {
		req.Header[name] = []string{value} // also names that Set would respell
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// TestWhatTheOAuth2ProxyPageSays about headers, scopes, other audiences and logins.
func TestWhatTheOAuth2ProxyPageSays(t *testing.T) {
	t.Parallel()
	srv, clients := issuer(t, slow, "10m")
	m := newMints(t, srv, clients)["EdDSA"]
	b := newBackend(t)
	s := settings{issuer: srv.Issuer, audience: "orders", alg: "EdDSA"}
	url, err := runOAuth2Proxy(t, s, b.url, fmt.Sprintf("extra_jwt_issuers = [%q]\n", srv.Issuer+"=shop"))
	if err != nil {
		didNotStart(t, err)
	}
	asks := func(what string, status int, token string, more ...string) http.Header {
		t.Helper()
		lines := map[string]string{"Authorization": "Bearer " + token}
		for n := 0; n < len(more); n += 2 {
			lines[more[n]] = more[n+1]
		}
		resp, got := get(t, url, lines), b.take()
		if resp.StatusCode != status || (got != nil) != (status == 200) {
			t.Errorf("%s: %d, the service got %v; want %d", what, resp.StatusCode, got, status)
		}
		return got
	}
	forged := []string{"X-Forwarded-User", "root", "X_Forwarded_User", "root", "x-forwarded_user", "root", "X.Forwarded.User", "root"}
	got := asks("forged headers", 200, m.genuine, forged...)
	if user, names := got["X-Forwarded-User"], usersOf(got); !slices.Equal(user, []string{clients["EdDSA"].ID}) ||
		!slices.Equal(names, []string{"x-forwarded-user", "x.forwarded.user"}) {
		t.Errorf("the service got the user %q and the headers %q", user, names)
	}
	asks("no scope", 200, m.claim(object{"scope": nil}))
	asks("nbf in four minutes", 200, m.claim(object{"nbf": in(4 * time.Minute)}))
	asks("the audience shop", 200, token(t, srv, clients["RS256"], "shop"))
	asks("a foreign audience", 401, m.claim(object{"aud": "elsewhere"}))
	for what, user := range map[string][2]string{"user name": {m.genuine, ""}, "password": {"billing", m.genuine}} {
		req := &http.Request{Header: http.Header{}}
		req.SetBasicAuth(user[0], user[1])
		if resp := get(t, url, map[string]string{"Authorization": req.Header.Get("Authorization")}); resp.StatusCode != 200 || b.take() == nil {
			t.Errorf("a token as the %s: %d", what, resp.StatusCode)
		}
	}

	// There is nowhere to log in.
	_, document, err := srv.Get(t.Context(), "/.well-known/openid-configuration")
	if err != nil || strings.Contains(string(document), `"authorization_endpoint"`) {
		t.Errorf("the page says that there is no authorization code: %v, %s", err, document)
	}
	resp := get(t, url+"/oauth2/start", nil)
	if to, err := resp.Location(); err == nil && strings.HasPrefix(to.String(), srv.Issuer) {
		t.Errorf("/oauth2/start leads to %s", to)
	}
	if resp := get(t, url+"/oauth2/callback?code=x&state=x", nil); resp.StatusCode < 400 || b.take() != nil {
		t.Errorf("the callback of a login: %d", resp.StatusCode)
	}
}

// TestOAuth2ProxyAnswersNginx with the blocks of its page.
func TestOAuth2ProxyAnswersNginx(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("nginx"); err != nil {
		didNotStart(t, missing{"Debian's nginx"})
	}
	srv, clients := issuer(t, slow, "10m")
	m := newMints(t, srv, clients)["EdDSA"]
	b := newBackend(t)
	line, err := blockOf("oauth2-proxy.md", "text", "set_xauthrequest")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := httptest.NewServer(http.NotFoundHandler())
	nowhere.Close()
	s := settings{issuer: srv.Issuer, audience: "orders", alg: "EdDSA"}
	proxy, err := runOAuth2Proxy(t, s, nowhere.URL, line)
	if err != nil {
		didNotStart(t, err)
	}
	site, err := blockOf("oauth2-proxy.md", "nginx", "auth_request", "http://127.0.0.1:9000", b.url, "http://127.0.0.1:4180", proxy)
	if err != nil {
		t.Fatal(err)
	}
	url := runNginx(t, site)
	for what, tt := range map[string]struct {
		status int
		token  string
	}{
		"a valid token": {200, m.genuine}, "a tampered one": {401, m.flip()}, "an expired one": {401, m.claim(object{"exp": in(-time.Hour)})},
		"a foreign one": {401, m.claim(object{"aud": "elsewhere"})}, "no token": {401, ""},
	} {
		lines := map[string]string{"X-Forwarded-User": "root", "X_Forwarded_User": "root", "X.Forwarded.User": "root", "X-Auth-Request-User": "root"}
		if tt.token != "" {
			lines["Authorization"] = "Bearer " + tt.token
		}
		resp, got := get(t, url, lines), b.take()
		if resp.StatusCode != tt.status || (got != nil) != (tt.status == 200) {
			t.Errorf("%s: %d, the service got %v; want %d", what, resp.StatusCode, got, tt.status)
		}
		if got != nil && (got.Get("X-Forwarded-User") != clients["EdDSA"].ID || !slices.Equal(usersOf(got), []string{"x-forwarded-user"})) {
			t.Errorf("%s: the service got %v", what, got)
		}
	}
	if resp := get(t, url+"/oauth2/auth", map[string]string{"Authorization": "Bearer " + m.genuine}); resp.StatusCode != 404 {
		t.Errorf("from outside: %d", resp.StatusCode)
	}
}

// runNginx runs nginx with the locations of a site and returns its URL.
func runNginx(t *testing.T, locations string) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var temporary strings.Builder
	for _, of := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s;\n", of, dir, of)
	}
	file := filepath.Join(dir, "nginx.conf")
	put(t, file, fmt.Sprintf("daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n%sserver {\nlisten %s;\n%s}\n}\n",
		dir, temporary.String(), address, locations))
	companion, err := server.Launch(exec.Command("nginx", "-e", "stderr", "-c", file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { companion.Close() })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return "http://" + address
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not listen on %s", address)
		}
	}
}

// TestOAuth2ProxyNeedsTheIssuerToStart, as its page says.
func TestOAuth2ProxyNeedsTheIssuerToStart(t *testing.T) {
	t.Parallel()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	url, err := runOAuth2Proxy(t, settings{issuer: "http://" + address, audience: "orders", alg: "EdDSA"}, "http://127.0.0.1:1", "")
	if err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("it listens on %q, %v", url, err)
	}
}
