package verifiers

import (
	"context"
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
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"keymill/integration_test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// A service is an API that trusts our tokens: 200 with the subject, or 401.
type service struct {
	name, alg, audience string
	url                 string
	http                *http.Client
}

// A maker starts a service. A lifespan of 0 leaves the cache as the library has it.
type maker struct {
	name, alg string
	start     func(t *testing.T, issuer, audience, alg string, lifespan time.Duration) (url string)
}

var makers = []maker{
	{"django", "RS256", startDjango},
	{"node", "EdDSA", startNode},
	{"node", "RS256", startNode},
	{"go-oidc", "EdDSA", startGo},
	{"go-oidc", "RS256", startGo},
}

// audienceOf names the audience that holds the tokens of one algorithm.
func audienceOf(alg string) string { return map[string]string{"EdDSA": "orders", "RS256": "shop"}[alg] }

func (m maker) service(t *testing.T, srv *server.Server, lifespan time.Duration) service {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	return service{
		name: m.name + " " + m.alg, alg: m.alg, audience: audienceOf(m.alg),
		url:  m.start(t, srv.Issuer, audienceOf(m.alg), m.alg, lifespan),
		http: &http.Client{Timeout: 10 * time.Second, Transport: transport},
	}
}

// ask shows the service a token, or none if it is empty.
func (s service) ask(ctx context.Context, token string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", s.url, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, string(b), err
}

// want fails the test unless the service answers with status.
func (s service) want(t *testing.T, status int, token, what string) {
	t.Helper()
	got, body, err := s.ask(t.Context(), token)
	if err != nil || got != status {
		t.Errorf("%s, %s: %d %.200s (%v), want %d", s.name, what, got, body, err, status)
	}
}

func startDjango(t *testing.T, issuer, audience, _ string, lifespan time.Duration) string {
	const python = "/usr/bin/python3" // whose packages are Debian's
	if err := exec.Command(python, "-I", "-c", "import rest_framework_simplejwt, jwt, cryptography").Run(); err != nil {
		missing(t, "Debian's python3-djangorestframework-simplejwt")
	}
	return startProgram(t, issuer, audience, "RS256", lifespan, python, "-I", "-B", "service.py")
}

func startNode(t *testing.T, issuer, audience, alg string, lifespan time.Duration) string {
	if _, err := os.Stat(filepath.Join("node", "node_modules", "jose")); err != nil {
		missing(t, "the npm package jose")
	}
	return startProgram(t, issuer, audience, alg, lifespan, "node", "--experimental-global-webcrypto", "service.mjs") // Debian 12 has Node 18
}

// startProgram runs a service in a process of its own; its first line is its address.
func startProgram(t *testing.T, issuer, audience, alg string, lifespan time.Duration, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = map[bool]string{true: "node", false: "django"}[name == "node"]
	cmd.Env = append(server.Environment(),
		"SERVICE_ISSUER="+issuer, "SERVICE_AUDIENCE="+audience, "SERVICE_ALG="+alg)
	if lifespan > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("SERVICE_LIFESPAN=%d", lifespan/time.Second))
	}
	cmd.Stderr = t.Output()
	return server.Serving(t, cmd)
}

// startGo serves coreos/go-oidc. Its RemoteKeySet has no lifespan at all: a key that
// it knows stays good until a token with an unknown kid makes it fetch the set again,
// so a revoked key can live for ever in a quiet service. A team that wants a bound
// starts over with a new key set every max-age, as is done here for lifespan > 0.
func startGo(t *testing.T, issuer, audience, _ string, lifespan time.Duration) string {
	t.Helper()
	provider, err := oidc.NewProvider(t.Context(), issuer)
	if err != nil {
		t.Fatalf("discovery: %v", err)
	}
	v := &goVerifier{provider: provider, audience: audience, lifespan: lifespan}
	ts := httptest.NewServer(v)
	t.Cleanup(ts.Close)
	return ts.URL
}

type goVerifier struct {
	provider *oidc.Provider
	audience string
	lifespan time.Duration

	mu       sync.Mutex // guards what follows
	verifier *oidc.IDTokenVerifier
	made     time.Time
}

func (v *goVerifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verifier, err := v.current()
	var token *oidc.IDToken
	if err == nil {
		token, err = verifier.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"sub": token.Subject})
}

func (v *goVerifier) current() (*oidc.IDTokenVerifier, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lifespan == 0 {
		return v.provider.Verifier(&oidc.Config{ClientID: v.audience}), nil
	}
	if time.Since(v.made) < v.lifespan {
		return v.verifier, nil
	}
	var document struct {
		Issuer string   `json:"issuer"`
		JWKS   string   `json:"jwks_uri"`
		Algs   []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := v.provider.Claims(&document); err != nil {
		return nil, err
	}
	v.verifier = oidc.NewVerifier(document.Issuer, oidc.NewRemoteKeySet(context.Background(), document.JWKS),
		&oidc.Config{ClientID: v.audience, SupportedSigningAlgs: document.Algs})
	v.made = time.Now()
	return v.verifier, nil
}

// missing skips a test whose real part is not installed. Where everything has to be
// there, that is a failure: a skipped proof proves nothing.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is missing; scripts/install-deps brings it", what)
}
