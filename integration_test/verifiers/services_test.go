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

// A library is an entry of the table: it starts services that verify with one library, and lists
// what its users must know about it. The tests prove each entry: a listed gap that does not exist
// fails as an unlisted gap does.
type library struct {
	name  string
	algs  []string // that it verifies
	lacks []string // that it cannot verify
	gaps  []gap
	// es256 are the gaps that it has beside them with ES256.
	es256 []gap
	least time.Duration // shortest lifespan of a key set that can be set; 0: any
	// reloads is true for a program that reads its keys from files. It knows them a moment after they were fetched.
	reloads bool
	sight   sight
	// settled are the gaps that the settings of docs/verify close. Without the settings they
	// exist. If it is nil, TestTheSettingsAreNeeded skips the library.
	settled []gap
	start   func(t *testing.T, s settings) (url string, err error)
}

// settings are what a team configures in a service.
type settings struct {
	issuer, audience, alg string
	lifespan              time.Duration // of the cached key set; 0 leaves the library's default
	bare                  bool          // only the location of the keys is set
}

// Lists of algorithms. both are those that a server has by default.
var (
	both        = []string{"EdDSA", "RS256"}
	all         = []string{"EdDSA", "RS256", "ES256"}
	rsOnly      = []string{"RS256"}
	edOnly      = []string{"EdDSA"}
	noEd        = []string{"RS256", "ES256"}
	rsOnlyLacks = []string{"EdDSA", "ES256"}
)

func libraries() []library {
	return slices.Concat(ownLibraries(), goLibraries(), programLibraries(), []library{oauth2Proxy(), vault()})
}

// libraryOf finds a library by its name.
func libraryOf(t *testing.T, name string) library {
	t.Helper()
	for _, l := range libraries() {
		if l.name == name {
			return l
		}
	}
	t.Fatalf("no library is called %q", name)
	return library{}
}

// A service is an API that accepts our tokens. It answers 200 with the subject, or 401.
type service struct {
	library
	name, alg, audience string
	url                 string
	http                *http.Client
}

// audienceOf returns the audience whose tokens have the algorithm.
func audienceOf(alg string) string {
	return map[string]string{"EdDSA": "orders", "RS256": "shop", "ES256": "stock"}[alg]
}

// profiles maps an algorithm to the claim profile of its tokens. simplejwt needs its own claims, so
// that it does not refuse a token of the matrix because of them.
var profiles = map[string]string{"EdDSA": "rfc9068", "RS256": "simplejwt", "ES256": "rfc9068"}

// issuer runs a server with an audience and a client for each algorithm that it has by default.
func issuer(t *testing.T, config, ttl string) (*server.Server, map[string]server.Client) {
	t.Helper()
	return issuerOf(t, both, config, ttl)
}

func issuerOf(t *testing.T, algs []string, config, ttl string) (*server.Server, map[string]server.Client) {
	t.Helper()
	return issuerWith(t, algs, server.Options{Config: config}, ttl)
}

func issuerWith(t *testing.T, algs []string, o server.Options, ttl string) (*server.Server, map[string]server.Client) {
	t.Helper()
	srv := server.Start(t, o)
	clients := map[string]server.Client{} // algorithm → its client
	for _, alg := range algs {
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

// services starts a service for every library and each of its algorithms that a server has by default.
func services(t *testing.T, srv *server.Server, lifespan time.Duration) []service {
	t.Helper()
	return servicesOf(t, both, srv, lifespan)
}

// servicesOf starts several services at once, because most take a second to load.
func servicesOf(t *testing.T, algs []string, srv *server.Server, lifespan time.Duration) []service {
	t.Helper()
	var found []service
	for _, l := range libraries() {
		for _, alg := range l.algs {
			if slices.Contains(algs, alg) {
				found = append(found, l.prepare(t, alg))
			}
		}
	}
	broken := make([]error, len(found))
	var wg sync.WaitGroup
	turns := make(chan struct{}, 4)
	for i := range found {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			s := &found[i]
			s.url, broken[i] = s.start(t, settings{issuer: srv.Issuer, audience: s.audience, alg: s.alg, lifespan: lifespan})
		})
	}
	wg.Wait()
	var running []service
	for i, s := range found {
		if broken[i] == nil {
			running = append(running, s)
			continue
		}
		t.Run("start of "+s.name, func(t *testing.T) { didNotStart(t, broken[i]) })
	}
	return running
}

// service starts one service.
func (l library) service(t *testing.T, srv *server.Server, alg string, lifespan time.Duration) service {
	t.Helper()
	s := l.prepare(t, alg)
	var err error
	if s.url, err = l.start(t, settings{issuer: srv.Issuer, audience: s.audience, alg: alg, lifespan: lifespan}); err != nil {
		didNotStart(t, err)
	}
	return s
}

func (l library) prepare(t *testing.T, alg string) service {
	if alg == "ES256" {
		l.gaps = slices.Concat(l.gaps, l.es256)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	return service{
		library: l, name: l.name + " " + alg, alg: alg, audience: audienceOf(alg),
		http: &http.Client{Timeout: 5 * time.Minute, Transport: transport},
	}
}

// ask calls the service with a token, or without one if token is empty.
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

// missing is the error for something that is not installed.
type missing struct{ what string }

func (m missing) Error() string { return m.what + " is missing; scripts/install-deps installs it" }

func isMissing(err error) bool { return errors.As(err, &missing{}) }

// didNotStart ends a test whose service did not start. If something is not installed it skips the
// test, except in CI, so that no test is skipped there without notice.
func didNotStart(t *testing.T, err error) {
	t.Helper()
	if isMissing(err) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	t.Fatal(fmt.Errorf("the service did not start: %w", err))
}
