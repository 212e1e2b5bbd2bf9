package verifiers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// A maker starts services that verify with one library, and says what its users have
// to know about it. Whatever it says is proved: a gap that is not there fails a test
// as a gap that is not stated does.
type maker struct {
	name  string
	algs  []string // it verifies
	lacks []string // it cannot verify
	gaps  []gap
	least time.Duration // the shortest lifespan of a key set that the library takes; 0: any
	// settled are the gaps that the settings of docs/verify close, and without them are
	// open; nil where nobody has tried.
	settled []gap
	start   func(t *testing.T, s settings) (url string, err error)
}

// Settings are what a team tells a service about its issuer.
type settings struct {
	issuer, audience, alg string
	lifespan              time.Duration // of the cached key set; 0 leaves it as the library has it
	bare                  bool          // nothing is set but where the keys are
}

var both, rsOnly, edOnly = []string{"EdDSA", "RS256"}, []string{"RS256"}, []string{"EdDSA"}

func makers() []maker { return slices.Concat(ownMakers(), goMakers(), programMakers()) }

// makerOf finds a maker by its name.
func makerOf(t *testing.T, name string) maker {
	t.Helper()
	for _, m := range makers() {
		if m.name == name {
			return m
		}
	}
	t.Fatalf("no verifier is called %q", name)
	return maker{}
}

// A service is an API that trusts our tokens: 200 with the subject, or 401.
type service struct {
	maker
	name, alg, audience string
	url                 string
	http                *http.Client
}

// audienceOf names the audience that holds the tokens of one algorithm.
func audienceOf(alg string) string { return map[string]string{"EdDSA": "orders", "RS256": "shop"}[alg] }

// profiles maps an algorithm to the claims of its tokens: simplejwt must not refuse a
// token for a claim that it misses where something else is wrong.
var profiles = map[string]string{"EdDSA": "rfc9068", "RS256": "simplejwt"}

// issuer runs a server with an audience and a client per algorithm.
func issuer(t *testing.T, config, ttl string) (*server.Server, map[string]server.Client) {
	t.Helper()
	srv := server.Start(t, server.Options{Config: config})
	clients := map[string]server.Client{} // algorithm → its client
	for _, alg := range both {
		srv.Run(t, "audience", "add", audienceOf(alg), "--alg", alg, "--ttl", ttl, "--profile", profiles[alg])
		clients[alg] = srv.AddClient(t, "billing-"+strings.ToLower(alg), audienceOf(alg))
	}
	return srv, clients
}

func token(t *testing.T, srv *server.Server, c server.Client, audience string) string {
	t.Helper()
	tok, err := srv.Token(t.Context(), c, audience)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// services starts every verifier with every algorithm that it can do, several at once,
// for most of them spend a second on loading themselves.
func services(t *testing.T, srv *server.Server, lifespan time.Duration) []service {
	t.Helper()
	var all []service
	for _, m := range makers() {
		for _, alg := range m.algs {
			all = append(all, m.prepare(t, alg))
		}
	}
	broken := make([]error, len(all))
	var wg sync.WaitGroup
	turns := make(chan struct{}, 4)
	for i := range all {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			s := &all[i]
			s.url, broken[i] = s.start(t, settings{issuer: srv.Issuer, audience: s.audience, alg: s.alg, lifespan: lifespan})
		})
	}
	wg.Wait()
	var running []service
	for i, s := range all {
		if broken[i] == nil {
			running = append(running, s)
			continue
		}
		t.Run("start of "+s.name, func(t *testing.T) { unless(t, broken[i]) })
	}
	return running
}

// service starts one.
func (m maker) service(t *testing.T, srv *server.Server, alg string, lifespan time.Duration) service {
	t.Helper()
	s := m.prepare(t, alg)
	var err error
	if s.url, err = m.start(t, settings{issuer: srv.Issuer, audience: s.audience, alg: alg, lifespan: lifespan}); err != nil {
		unless(t, err)
	}
	return s
}

func (m maker) prepare(t *testing.T, alg string) service {
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	return service{
		maker: m, name: m.name + " " + alg, alg: alg, audience: audienceOf(alg),
		http: &http.Client{Timeout: 5 * time.Minute, Transport: transport},
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

// missing says that a real part is not installed.
type missing struct{ what string }

func (m missing) Error() string { return m.what + " is missing; scripts/install-deps brings it" }

func isMissing(err error) bool { return errors.As(err, &missing{}) }

// unless ends a test whose service did not start. A part that is missing skips it,
// except where everything has to be there: a skipped proof proves nothing.
func unless(t *testing.T, err error) {
	t.Helper()
	if isMissing(err) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	t.Fatal(fmt.Errorf("the service did not start: %w", err))
}
