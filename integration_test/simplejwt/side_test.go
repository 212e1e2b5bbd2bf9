package simplejwt

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
)

const (
	obtainPath    = "/api/token/"
	refreshPath   = "/api/token/refresh/"
	verifyPath    = "/api/token/verify/"
	blacklistPath = "/api/token/blacklist/"
	whoamiPath    = "/api/whoami/"
)

const (
	audience = "shop"
	origin   = "https://shop.example"
)

// A side is simplejwt or the server, with the API that trusts its tokens.
type side struct {
	name string
	url  string
	api  string
	old  tokens                               // of alice, expired
	kept tokens                               // of alice; no row uses them up
	user func(t *testing.T, act, name string) // disable, passwd or remove
}

// tokens is the answer of a login.
type tokens struct {
	Access  string `json:"access"`
	Refresh string `json:"refresh"`
	Live    string `json:"live"` // with expired tokens: a refresh token that is still valid
}

// A pair is simplejwt and the server, with the same users in both.
type pair struct {
	theirs, ours *side
	server       *server.Server
	project      *project
	differences  map[string]difference // row → the answer of each side
}

// TestTheEndpointAnswersAsSimpleJWT starts both sides once, because starting them takes longer than
// most requests. Its parts run in order, because some of them change the users.
func TestTheEndpointAnswersAsSimpleJWT(t *testing.T) {
	p := newPair(t)
	t.Run("the API knows the caller", p.theAPIKnowsTheCaller)
	// After a restart the tokens are older than the server process. The logins above have replaced
	// Django's slow hashes, and the server has no memory of their time, so it refuses logins
	// sooner.
	if err := errors.Join(p.server.Stop(), p.server.Start()); err != nil {
		t.Fatal(err)
	}
	t.Run("the API refuses alike", p.theAPIRefusesAlike)
	t.Run("another API refuses", p.anotherAPIRefuses)
	t.Run("user ids may be words", p.userIDsMayBeWords)
	t.Run("our tokens say what theirs do", p.ourTokensSayWhatTheirsDo)
	t.Run("a front end works with both", p.aFrontEndWorksWithBoth)
	t.Run("the same answers", p.theSameAnswers)
	t.Run("a retry within the grace works", p.aRetryWithinTheGraceWorks)
}

// newPair starts both sides. Our client has no grace, because simplejwt has none.
func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{project: newProject(t), differences: differences()}
	p.server = startServer(t, p.project)

	own := p.project.serve(t)
	p.theirs = &side{name: "simplejwt", url: own, api: own}
	p.theirs.user = func(t *testing.T, act, name string) { p.project.run(t, nil, act, name) }
	if err := json.Unmarshal(p.project.run(t, nil, "expired", "alice"), &p.theirs.old); err != nil {
		t.Fatal(err)
	}

	p.ours = &side{name: "keymill", url: p.server.Issuer, api: p.project.serveAPI(t, p.server.Issuer, audience)}
	p.ours.user = func(t *testing.T, act, name string) { administer(t, p.server, act, name) }
	p.ours.old = p.expiredTokens(t)
	p.theirs.kept, p.ours.kept = p.theirs.login(t, "alice"), p.ours.login(t, "alice")
	return p
}

// startServer runs a server with the project's users.
func startServer(t *testing.T, p *project) *server.Server {
	t.Helper()
	srv := server.Start(t, server.Options{Config: "simplejwt:\n  client: web\nhttp:\n  trusted_proxies: [127.0.0.1]\n"})
	srv.Run(t, "audience", "add", audience, "--alg", "RS256", "--profile", "simplejwt")
	srv.Run(t, "client", "add", "web", "--public", "--grant", "refresh_token", "--audience", audience,
		"--origin", origin, "--grace", "0s")
	dump := filepath.Join(t.TempDir(), "dump.json")
	if err := os.WriteFile(dump, p.run(t, nil, "dumpdata", "auth.user"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv.Run(t, "user", "import", dump)
	return srv
}

func administer(t *testing.T, srv *server.Server, act, name string) {
	t.Helper()
	if act == "passwd" {
		typed(t, srv, rand.Text(), "user", act, name, "--password-stdin")
		return
	}
	srv.Run(t, "user", act, name)
}

// typed runs a verb that reads a secret from standard input.
func typed(t *testing.T, srv *server.Server, secret string, args ...string) {
	t.Helper()
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(server.Environment(), "KEYMILL_DATA="+srv.Data)
	cmd.Stdin = strings.NewReader(secret + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("keymill %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// expiredTokens returns tokens of alice with an expired access token. Their session has ended as
// soon as the client's sessions end after a second.
func (p *pair) expiredTokens(t *testing.T) tokens {
	t.Helper()
	p.server.Run(t, "audience", "set", audience, "--ttl", "1s")
	old := p.ours.login(t, "alice")
	old.Live = p.ours.login(t, "alice").Refresh
	time.Sleep(2 * time.Second) // past exp, which is rounded to a second
	p.server.Run(t, "audience", "set", audience, "--ttl", "5m")
	return old
}

// login logs a user in, from an address of its own.
func (s *side) login(t *testing.T, name string) tokens {
	t.Helper()
	p := userNamed(name)
	return s.tokens(t, post(obtainPath, fields{"username": p.Name, "password": p.Password}))
}

func (s *side) refresh(t *testing.T, refresh string) tokens {
	t.Helper()
	return s.tokens(t, post(refreshPath, fields{"refresh": refresh}))
}

func (s *side) tokens(t *testing.T, c call) tokens {
	t.Helper()
	a := s.do(t, c)
	var got tokens
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK || got.Access == "" || got.Refresh == "" {
		t.Fatalf("%s: %s returned no tokens: %s (%v)", s.name, c.path, a.line(), err)
	}
	return got
}

func (s *side) do(t *testing.T, c call) answer {
	t.Helper()
	return do(t, s.url, c)
}
