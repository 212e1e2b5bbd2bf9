package verifiers

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// kubernetes is the authenticator of the Kubernetes API server. It is not in libraries, because its issuer must have an https address.
func kubernetes(f *tlsFront) library {
	return library{name: "kubernetes", algs: noEd, lacks: edOnly, sight: seesInMaxAge, least: 24 * time.Hour,
		start: func(t *testing.T, s settings) (string, error) { return startKubernetes(t, f, s) },
		gaps:  []gap{ignoresType, readsLoosely, keepsRevokedKey},
		es256: []gap{takesAnyAlgorithm}}
}

// startKubernetes runs it with the file of its page, and changes of it: old, new, …
func startKubernetes(t *testing.T, f *tlsFront, s settings, changes ...string) (string, error) {
	binary, err := toolOf("kubernetes", "service")
	if err != nil {
		return "", err
	}
	url := "url: " + s.issuer + "\n      certificateAuthority: |\n        " + strings.ReplaceAll(strings.TrimSpace(f.ca), "\n", "\n        ")
	config, err := blockOf("kubernetes.md", "text", "AuthenticationConfiguration",
		"url: https://id.example.com", url, "audiences: [kubernetes]", "audiences: ["+s.audience+"]")
	if err == nil {
		config, err = replaced(config, changes...)
	}
	if err != nil {
		return "", err
	}
	file := filepath.Join(t.TempDir(), "authentication.yaml")
	put(t, file, config)
	cmd := exec.Command(binary)
	cmd.Env = append(server.Environment(), "SERVICE_CONFIG="+file)
	cmd.Stderr = t.Output()
	return serving(t, cmd)
}

// A tlsFront is a proxy with a certificate in front of an issuer. It can change the max-age of the key set.
type tlsFront struct {
	url, ca string
	target  atomic.Pointer[url.URL]
	maxAge  atomic.Int64 // in seconds; 0: as the issuer says
	fetches atomic.Int64 // of the key set
}

func newTLSFront(t *testing.T) *tlsFront {
	f := &tlsFront{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(f.target.Load()) },
		ModifyResponse: func(resp *http.Response) error {
			if !strings.HasSuffix(resp.Request.URL.Path, "/jwks.json") {
				return nil
			}
			f.fetches.Add(1)
			if age := f.maxAge.Load(); age > 0 {
				resp.Header.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", age))
			}
			return nil
		},
	}
	ts := httptest.NewTLSServer(proxy)
	t.Cleanup(ts.Close)
	f.url = ts.URL
	f.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw}))
	return f
}

// issuer runs a server behind the front.
func (f *tlsFront) issuer(t *testing.T, algs []string, config, ttl string) (*server.Server, map[string]server.Client) {
	t.Helper()
	srv, clients := issuerWith(t, algs, server.Options{Config: config, Issuer: f.url}, ttl)
	target, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	f.target.Store(target)
	return srv, clients
}

// TestWhatTheKubernetesPageSays about what the authenticator checks, as in TestTheMatrix.
func TestWhatTheKubernetesPageSays(t *testing.T) {
	t.Parallel()
	f := newTLSFront(t)
	srv, clients := f.issuer(t, all, slowOfAll, "10m")
	mints := newMints(t, srv, clients)
	for _, alg := range noEd {
		m := mints[alg]
		c := &candidate{kubernetes(f).service(t, srv, alg, 0), map[string]string{}}
		c.accepts(t, m, "keymill:"+clients[alg].ID)
		for _, r := range rowsOf(alg) {
			c.refuses(t, r.column, r.name, r.token(m))
		}
		c.want(t, 200, m.genuine, "the valid token, again")
		c.checkGaps(t)
		t.Logf("counted: %-22s%s", c.name, cells(func(column string) string { return c.cells[column] }))
		if alg != "RS256" {
			continue
		}
		c.want(t, 401, m.claim(object{"client_id": nil}), "no client_id")
		c.want(t, 200, m.claim(object{"scope": nil}), "no scope")
		c.want(t, 200, m.claim(object{"nbf": in(50 * time.Second)}), "50 s before nbf")
		c.want(t, 401, m.claim(object{"nbf": in(70 * time.Second)}), "70 s before nbf")
		_, body, err := c.ask(t.Context(), m.claim(object{"sub": "system:admin", "groups": []string{"system:masters"}}))
		if want := `{"groups":["keymill:system:masters"],"sub":"keymill:system:admin"}`; err != nil || strings.TrimSpace(body) != want {
			t.Errorf("groups: %s, %v; want %s", body, err, want)
		}
	}
	s := kubernetes(f).service(t, srv, "EdDSA", 0)
	s.want(t, 401, token(t, srv, clients["EdDSA"], s.audience), "EdDSA")
	if url, err := startKubernetes(t, f, settings{issuer: f.url, audience: "shop"}, "url: https:", "url: http:"); err == nil {
		t.Errorf("an issuer with http: it listens on %q", url)
	}
}

// TestKubernetesSeesAFlushWhenItMayFetch: with a max-age of 40 s it fetches at most once in ten seconds, as it does once in four
// and a half minutes with the default.
func TestKubernetesSeesAFlushWhenItMayFetch(t *testing.T) {
	t.Parallel()
	f := newTLSFront(t)
	srv, clients := f.issuer(t, rsOnly, slow, "10m")
	sign := func() string { return token(t, srv, clients["RS256"], "shop") }
	s := kubernetes(f).service(t, srv, "RS256", 0)
	awaitSpare(t, srv, "RS256")
	first := sign()
	s.want(t, 200, first, "before the revocation")
	until := revoke(t, srv, kidOf(first)).CachedUntil
	second := sign()
	s.want(t, 200, second, "the spare")
	time.Sleep(time.Until(until) + maxAge/4)
	s.want(t, 200, first, "the revoked key when max-age is over")

	awaitStage(t, srv, "RS256", "reserve")
	f.maxAge.Store(40)
	fetched := time.Now() // or later
	s.want(t, 401, second[:len(second)-8]+"AAAAAAAA", "a wrong signature, which makes it fetch")
	s.want(t, 401, first, "the revoked key after a fetch")
	revoke(t, srv, kidOf(second), "--flush")
	third, before := sign(), f.fetches.Load()
	flushed, _, _ := s.ask(t.Context(), third)
	revoked, _, _ := s.ask(t.Context(), second)
	n := f.fetches.Load() - before
	if time.Since(fetched) < 8*time.Second && (flushed != 401 || revoked != 200 || n != 0) { // unless the machine is very slow
		t.Errorf("at once the flushed key is answered with %d and the revoked key with %d; it has fetched the set %d times", flushed, revoked, n)
	}
	restarted := kubernetes(f).service(t, srv, "RS256", 0)
	restarted.want(t, 200, third, "the flushed key after a restart")
	restarted.want(t, 401, second, "the revoked key after a restart")
	status := 401
	for ; status == 401 && time.Since(fetched) < time.Minute; time.Sleep(50 * time.Millisecond) {
		status, _, _ = s.ask(t.Context(), third)
	}
	// max-age counts from a Date in whole seconds
	if waited := time.Since(fetched); status != 200 || waited < 9*time.Second {
		t.Errorf("the flushed key is answered with %d after %v", status, waited)
	}
	refetched := time.Now()
	s.want(t, 401, second, "the revoked key after a token of the flushed one")

	awaitStage(t, srv, "RS256", "reserve")
	f.maxAge.Store(30)
	time.Sleep(time.Until(refetched.Add(11 * time.Second))) // until it may fetch again
	s.want(t, 401, third[:len(third)-8]+"AAAAAAAA", "a wrong signature, which makes it fetch")
	revoke(t, srv, kidOf(third), "--flush")
	s.want(t, 200, sign(), "the flushed key, with a max-age of 30 s")
	s.want(t, 401, third, "the revoked key, with a max-age of 30 s")
}

// TestRotationsDoNotDisturbKubernetes: keys rotate twice, published for longer than it waits between two fetches.
func TestRotationsDoNotDisturbKubernetes(t *testing.T) {
	t.Parallel()
	f := newTLSFront(t)
	f.maxAge.Store(33)
	srv, clients := f.issuer(t, rsOnly, fast, tokenTTL.String())
	g := &group{srv: srv, client: clients["RS256"], audience: "shop"}
	c := &counter{service: kubernetes(f).service(t, srv, "RS256", 0), kids: map[string]bool{}}
	g.counters = []*counter{c}
	ctx, cancel := context.WithTimeout(t.Context(), 20*rotateEvery)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { g.run(ctx) })
	for ctx.Err() == nil && (c.rotations() < 2 || c.again.Load() == 0) {
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	c.report(t)
	if g.failed.Load() > 0 || c.rotations() < 2 {
		t.Errorf("%d rotations, %d failures of the issuer", c.rotations(), g.failed.Load())
	}
}
