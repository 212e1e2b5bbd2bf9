package monitoring

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"keymill/integration_test/pages"
	"keymill/integration_test/server"
	"keymill/jwks"
)

// A target is a service whose metrics need a token.
type target struct {
	*httptest.Server

	mu       sync.Mutex // guards the others
	redirect string     // where a scrape is sent, or ""
	seen     []scraped
}

// A scraped is a request with a token.
type scraped struct {
	jti, kid string
	status   int
}

// newTarget starts a service that verifies with the code of docs/verify/go-jwks.md.
func newTarget(t *testing.T, issuer, audience string) *target {
	t.Helper()
	keys, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := jwks.NewVerifier(jwks.VerifierConfig{
		Issuer: issuer, Audience: audience, Algorithms: []string{jwks.EdDSA}, Keys: keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "orders_total 7\n") })
	guarded := jwks.Guard{Verifier: verifier}.Require(metrics, "scrape")
	tg := &target{}
	tg.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		guarded.ServeHTTP(answer, r)
		tg.mu.Lock()
		redirect := tg.redirect
		if token, sent := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); sent {
			tg.seen = append(tg.seen, scraped{member(token, 1, "jti"), member(token, 0, "kid"), answer.Code})
		}
		tg.mu.Unlock()
		if redirect != "" {
			http.Redirect(w, r, redirect, http.StatusFound)
			return
		}
		w.WriteHeader(answer.Code)
		io.Copy(w, answer.Body)
	}))
	t.Cleanup(tg.Close)
	return tg
}

// member reads a text from the header of a token, part 0, or its claims, part 1.
func member(token string, part int, name string) string {
	parts, m := strings.Split(token, "."), map[string]any{}
	if len(parts) == 3 {
		b, _ := base64.RawURLEncoding.DecodeString(parts[part])
		json.Unmarshal(b, &m) // without a text it has none
	}
	text, _ := m[name].(string)
	return text
}

// after returns what came after the first n requests.
func (tg *target) after(n int) []scraped {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return append([]scraped(nil), tg.seen[n:]...)
}

func (tg *target) count() int { return len(tg.after(0)) }

func (tg *target) last() scraped {
	all := tg.after(0)
	return all[len(all)-1]
}

// awaits waits for n more requests and returns them.
func (tg *target) awaits(t *testing.T, n int) []scraped {
	t.Helper()
	begin := tg.count()
	await(t, fmt.Sprintf("%d scrapes", n), func() bool { return tg.count() >= begin+n })
	return tg.after(begin)
}

func (tg *target) redirectTo(url string) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.redirect = url
}

// A page is docs/verify/prometheus.md for one server, with files in one directory.
type page struct {
	*server.Server
	pages.Page
	dir string
}

// run runs the commands of the page.
func (p page) run(t *testing.T) {
	t.Helper()
	b, found := p.Find("text", "keymill client add prometheus")
	if !found {
		t.Fatal("the page adds no client")
	}
	bin := filepath.Join(p.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(p.Binary(), filepath.Join(bin, "keymill")); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("/etc/prometheus", p.dir, " -g prometheus", "").Replace(b.Text)
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", text)
	cmd.Env = append(server.Environment(), "KEYMILL_DATA="+p.Data, "PATH="+bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// job returns the block of a job with other texts in it.
func (p page) job(t *testing.T, replace ...string) string {
	t.Helper()
	b, found := p.Find("text", "scrape_configs:")
	if !found {
		t.Fatal("the page has no job")
	}
	replace = append(replace, "https://id.example.com", p.Issuer, "/etc/prometheus", p.dir, "scheme: https", "scheme: http")
	for n := 0; n < len(replace); n += 2 {
		if !strings.Contains(b.Text, replace[n]) {
			t.Fatalf("the job has no %q", replace[n])
		}
	}
	_, jobs, _ := strings.Cut(strings.NewReplacer(replace...).Replace(b.Text), "scrape_configs:\n")
	return jobs
}

func (p page) secret(t *testing.T, text string) {
	t.Helper()
	// Prometheus must not read half of it.
	write(t, filepath.Join(p.dir, "new"), text)
	if err := os.Rename(filepath.Join(p.dir, "new"), filepath.Join(p.dir, "orders.secret")); err != nil {
		t.Fatal(err)
	}
}

// A world is a server, and Prometheus with the job of the page and two more: one whose tokens last 12 seconds, and one
// whose tokens last ten and that follows redirects.
type world struct {
	page
	prometheus
	orders, short, loose *target
	elsewhere            *target // a host that is not scraped
}

func newWorld(t *testing.T) *world {
	t.Helper()
	srv := server.Start(t, server.Options{Config: "keys:\n  rotate_every: 1h\n  propagation: 2s\njwks:\n  max_age: 1s"})
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := pages.ReadOne(root, "docs/verify/prometheus.md")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{page: page{srv, text, t.TempDir()}}
	w.run(t)
	for audience, ttl := range map[string]string{"short": "12s", "loose": "10s"} {
		w.Run(t, "audience", "add", audience, "--ttl", ttl, "--scope", "scrape")
	}
	w.Run(t, "client", "set", "prometheus", "--audience", "orders-metrics", "--audience", "short", "--audience", "loose")
	w.orders, w.short = newTarget(t, w.Issuer, "orders-metrics"), newTarget(t, w.Issuer, "short")
	w.loose, w.elsewhere = newTarget(t, w.Issuer, "loose"), newTarget(t, w.Issuer, "elsewhere")
	host := func(tg *target) string { return strings.TrimPrefix(tg.URL, "http://") }
	write(t, filepath.Join(w.dir, "prometheus.yml"), "global: {scrape_interval: 250ms, scrape_timeout: 250ms}\nscrape_configs:\n"+
		w.job(t, "orders.example.com", host(w.orders))+
		w.job(t, "orders.example.com", host(w.short), "job_name: orders", "job_name: short", "orders-metrics", "short")+
		w.job(t, "orders.example.com", host(w.loose), "job_name: orders", "job_name: loose", "orders-metrics", "loose",
			"    follow_redirects: false\n", ""))
	w.prometheus = launchPrometheus(t, w.dir)
	for _, job := range []string{"orders", "short", "loose"} {
		w.awaits(t, job, 1)
	}
	return w
}

// awaits waits until the target of a job is up, 1, or down, 0.
func (w *world) awaits(t *testing.T, job string, up int) {
	t.Helper()
	await(t, fmt.Sprintf("scrape of %s with up = %d", job, up), func() bool {
		result, err := w.query(fmt.Sprintf("up{job=%q} == %d", job, up))
		return err == nil && len(result) == 1
	})
}

// reason returns the error of a job's target.
func (w *world) reason(t *testing.T, job string) string {
	t.Helper()
	var data struct {
		ActiveTargets []struct {
			Labels    map[string]string
			LastError string
		}
	}
	if err := w.prometheus.get("targets", nil, &data); err != nil {
		t.Fatal(err)
	}
	for _, tg := range data.ActiveTargets {
		if tg.Labels["job"] == job {
			return tg.LastError
		}
	}
	t.Fatalf("there is no target of %s", job)
	return ""
}

// TestPrometheusScrapesWithATokenOfItsOwn proves docs/verify/prometheus.md.
func TestPrometheusScrapesWithATokenOfItsOwn(t *testing.T) {
	needs(t, "prometheus", "jq")
	t.Parallel()
	w := newWorld(t)
	if result, err := w.query(`orders_total{job="orders"}`); err != nil || len(result) != 1 || result[0].Value[1] != "7" {
		t.Errorf("the metric of the target: %v, %v", result, err)
	}
	t.Run("others get no metrics", w.refusesOthers)
	t.Run("a token until ten seconds before its end", w.renews)
	t.Run("redirects", w.redirects)
	t.Run("two rotations", w.rotates)
	t.Run("another secret", w.changesSecret)
	t.Run("a revoked key", w.revokesKey) // the target of orders stays down
}

// refusesOthers sends what the target must refuse.
func (w *world) refusesOthers(t *testing.T) {
	token := func(audience string, scopes ...string) string {
		w.Run(t, "audience", "set", audience, "--scope", "scrape", "--scope", "read")
		var c server.Client
		args := []string{"client", "add", "other-" + audience, "--grant", "client_credentials", "--audience", audience}
		for _, s := range scopes {
			args = append(args, "--scope", s)
		}
		w.RunJSON(t, &c, args...)
		token, err := w.Token(t.Context(), c, audience)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	other, narrow := token("short", "scrape"), token("orders-metrics", "read")
	for what, tt := range map[string]struct {
		token  string
		status int
	}{
		"no token":         {"", http.StatusUnauthorized},
		"another audience": {other, http.StatusUnauthorized},
		"a tampered token": {narrow[:len(narrow)-6] + "AAAAAA", http.StatusUnauthorized},
		"another scope":    {narrow, http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.orders.URL+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.token != "" {
			req.Header.Set("Authorization", "Bearer "+tt.token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || strings.Contains(string(body), "orders_total") {
			t.Errorf("%s: %d %s, want %d", what, resp.StatusCode, body, tt.status)
		}
	}
}

// renews looks at the tokens of three jobs: the same for five minutes, another every two seconds, and another each time.
func (w *world) renews(t *testing.T) {
	first, begin := w.orders.awaits(t, 1)[0], w.short.count()
	var short []scraped
	await(t, "third token of short", func() bool {
		short = w.short.after(begin)
		return distinct(short) == 3
	})
	if len(short) < 6 {
		t.Errorf("%d scrapes with 3 tokens that are used for two seconds", len(short))
	}
	for _, s := range short {
		if s.status != http.StatusOK {
			t.Errorf("a scrape of short: %d", s.status)
		}
	}
	if last := w.orders.last(); last != first {
		t.Errorf("another scrape of orders: %v, before %v", last, first)
	}
	if loose := w.loose.awaits(t, 3); distinct(loose) != len(loose) {
		t.Errorf("%d scrapes with %d tokens of ten seconds", len(loose), distinct(loose))
	}
}

// distinct counts the tokens of scrapes.
func distinct(all []scraped) int {
	tokens := map[string]bool{}
	for _, s := range all {
		tokens[s.jti] = true
	}
	return len(tokens)
}

// redirects sends the scrapes elsewhere.
func (w *world) redirects(t *testing.T) {
	w.orders.redirectTo(w.elsewhere.URL + "/orders")
	w.awaits(t, "orders", 0)
	w.orders.awaits(t, 2)
	if n := w.elsewhere.count(); n != 0 {
		t.Errorf("a redirect gave the token to another host %d times, with the lines of the page", n)
	}
	w.orders.redirectTo("")
	w.loose.redirectTo(w.elsewhere.URL + "/loose")
	await(t, "token at another host", func() bool { return w.elsewhere.count() > 0 })
	w.loose.redirectTo("")
	w.awaits(t, "orders", 1)
}

// rotates changes the key that signs, twice.
func (w *world) rotates(t *testing.T) {
	begin, kids := w.short.count(), map[string]bool{}
	for range 2 {
		w.awaitSpare(t)
		kid := w.short.last().kid
		kids[kid] = true
		w.Run(t, "key", "rotate", "--alg", "EdDSA", "--force")
		await(t, "token of the next key", func() bool { return w.short.last().kid != kid })
	}
	for _, s := range w.short.after(begin) {
		kids[s.kid] = true
		if s.status != http.StatusOK {
			t.Errorf("a scrape during a rotation: %d", s.status)
		}
	}
	if len(kids) != 3 {
		t.Errorf("the tokens had %d keys, want 3", len(kids))
	}
	w.orders.awaits(t, 1)
	if s := w.orders.last(); s.status != http.StatusOK {
		t.Errorf("the token of before both rotations: %d", s.status)
	}
}

// awaitSpare waits until the ring has a spare that every service can know.
func (w *world) awaitSpare(t *testing.T) {
	t.Helper()
	await(t, "spare", func() bool {
		var keys []struct{ Alg, Stage string }
		w.RunJSON(t, &keys, "key", "list")
		for _, k := range keys {
			if k.Alg == jwks.EdDSA && k.Stage == "spare" {
				return true
			}
		}
		return false
	})
}

// changesSecret also shows what Prometheus tells if the secret is wrong.
func (w *world) changesSecret(t *testing.T) {
	var c server.Client
	w.RunJSON(t, &c, "client", "rotate-secret", "prometheus", "--old-for", "1h")
	w.secret(t, "wrong\n")
	w.awaits(t, "loose", 0)
	if reason := w.reason(t, "loose"); !strings.Contains(reason, "invalid_client") {
		t.Errorf("the reason is %q", reason)
	}
	before := w.orders.last()
	w.secret(t, c.Secret+"\n")
	w.awaits(t, "loose", 1)
	await(t, "token that the new secret brought", func() bool { s := w.orders.last(); return s.jti != before.jti && s.status == http.StatusOK })
}

// revokesKey: the same token is sent although it was refused. A token that ends soon is replaced.
func (w *world) revokesKey(t *testing.T) {
	w.awaitSpare(t)
	refused := w.orders.last()
	w.Run(t, "key", "revoke", refused.kid)
	await(t, "refusal", func() bool { return w.orders.last().status == http.StatusUnauthorized })
	for _, s := range w.orders.awaits(t, 4) {
		if s.jti != refused.jti || s.status != http.StatusUnauthorized {
			t.Errorf("after a refusal: %v, before %v", s, refused)
		}
	}
	await(t, "token of the next key", func() bool { s := w.short.last(); return s.kid != refused.kid && s.status == http.StatusOK })
	w.awaits(t, "orders", 0)
	w.awaits(t, "short", 1)
}
