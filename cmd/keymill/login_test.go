package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// withAlice adds what users need to log in, and the user alice (7).
func (p *place) withAlice(t *testing.T) {
	t.Helper()
	p.must(nil, "audience", "add", "shop", "--alg", "RS256", "--profile", "simplejwt")
	p.must(nil, "client", "add", "web", "--public", "--grant", "refresh_token", "--audience", "shop", "--origin", "https://app.example")
	p.shell(t, []string{"printf %s 'correct horse battery' | " + program(t) + " user add alice --id 7 --password-stdin --data " + p.data})
}

// A delivery is one request of the webhook.
type delivery struct {
	header http.Header
	body   []byte
}

// TestAReceiverCanVerifyTheWebhook with the program of docs/people.md.
func TestAReceiverCanVerifyTheWebhook(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil && os.Getenv("CI") == "" {
		t.Skip("python3 is not installed")
	}
	p := newPlace(t)
	p.writeKey("webhook.secret", goodHookSecret)
	got := make(chan delivery, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- delivery{r.Header, body}
	}))
	t.Cleanup(receiver.Close)
	env := append(p.hookEnv(receiver.URL+"/keymill"), "KEYMILL_SIMPLEJWT_CLIENT=web", "KEYMILL_REFRESH_GRACE=0s")
	c := p.startWith(env, p.serveArgs()...)
	p.withAlice(t)
	status, body := login(t, c, "alice", "correct horse battery")
	var pair struct{ Refresh string }
	if err := json.Unmarshal([]byte(body), &pair); err != nil || status != 200 {
		t.Fatalf("login: %d %s", status, body)
	}
	for range 2 { // the second time is a replay
		resp, err := http.Post(c.url("/api/token/refresh/"), "application/json", strings.NewReader(`{"refresh":"`+pair.Refresh+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	p.must(nil, "user", "logout", "alice")
	seen := map[string]bool{}
	for len(seen) < 2 {
		select {
		case d := <-got:
			var event struct{ Type string }
			if err := json.Unmarshal(d.body, &event); err != nil {
				t.Fatal(err)
			}
			seen[event.Type] = true
			verifyDelivery(t, d)
		case <-time.After(failsafe):
			t.Fatalf("only %v came", seen)
		}
	}
	if !seen["session.replayed"] || !seen["user.revoked"] {
		t.Errorf("got %v", seen)
	}
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(c.errs.String(), "/keymill") || strings.Contains(c.errs.String(), "whsec_") {
		t.Error("the log holds the path or the secret")
	}
}

// verifyDelivery runs the program of docs/people.md on a delivery, and on a changed one.
func verifyDelivery(t *testing.T, d delivery) {
	t.Helper()
	page, err := os.ReadFile("../../docs/people.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(page), "```python\n")
	code, _, closed := strings.Cut(code, "```")
	if !found || !closed {
		t.Fatal("docs/people.md has no program that verifies a delivery")
	}
	headers := map[string]string{}
	for name := range d.header {
		headers[strings.ToLower(name)] = d.header.Get(name)
	}
	raw, err := json.Marshal(map[string]any{"headers": headers, "body": d.body, "secret": strings.TrimSpace(goodHookSecret)})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", code+`
import json
import sys

d = json.load(sys.stdin)
body = base64.b64decode(d["body"])
print(verify(d["headers"], body, d["secret"]), verify(d["headers"], body + b" ", d["secret"]))
`)
	cmd.Stdin = bytes.NewReader(raw)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "True False\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestALoginEndpointWithoutItsClientIsLogged with a command, and the command mends it.
func TestALoginEndpointWithoutItsClientIsLogged(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	env := append(p.env(), "KEYMILL_SIMPLEJWT_CLIENT=web", "KEYMILL_SESSION_CLIENT=web")
	c := p.startWith(env, p.serveArgs()...)
	const line = `keymill client add web --public --grant refresh_token --audience AUDIENCE --origin https://app.example`
	if got := c.errs.String(); strings.Count(got, line) != 2 || !strings.Contains(got, "setting=simplejwt.client") || !strings.Contains(got, "setting=session.client") {
		t.Errorf("the log:\n%s", got)
	}
	if status, _ := login(t, c, "alice", "correct horse battery"); status != http.StatusServiceUnavailable {
		t.Errorf("a login endpoint without a client answers %d", status)
	}
	p.reportsLogin(env, c, "the client does not exist")
	p.must(nil, "audience", "add", "AUDIENCE", "--alg", "RS256")
	p.must(nil, strings.Fields(line)[1:]...)
	p.shell(t, []string{"echo correct horse battery | " + program(t) + " user add alice --password-stdin --data " + p.data})
	if status, body := login(t, c, "alice", "correct horse battery"); status != http.StatusOK {
		t.Errorf("login after the command: %d %s", status, body)
	}
	c.logged(`msg="users can log in at a login endpoint again"`, 2)
	p.reportsLogin(env, c, "")
	for _, step := range []struct{ line, why, command string }{
		{"client disable web", "the client is disabled", "keymill client enable web"},
		{"client enable web", "", ""},
		{"client set web --grant=", "the client is not allowed the refresh_token grant", "keymill client set web --grant refresh_token"},
		{"client set web --grant refresh_token --audience=", "the client has no audience", "keymill client set web --audience AUDIENCE"},
	} {
		p.must(nil, strings.Fields(step.line)...)
		line := `reason="` + step.why + `" type="` + step.command + `"`
		if step.why != "" {
			c.logged(line, 2) // when the change was made
		}
		p.reportsLogin(env, c, step.why)
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
		p.reportsLogin(env, nil, step.why)
		c = p.startWith(env, p.serveArgs()...)
		got := c.errs.String()
		if step.why == "" && strings.Contains(got, "level=WARN") || step.why != "" && strings.Count(got, line) != 2 {
			t.Errorf("after %s:\n%s", step.line, got)
		}
	}
	p.must(nil, "client", "add", "kiosk", "--grant", "refresh_token", "--audience", "AUDIENCE")
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	env = append(p.env(), "KEYMILL_SIMPLEJWT_CLIENT=kiosk", "KEYMILL_SESSION_CLIENT=kiosk")
	p.reportsLogin(env, nil, "the client is confidential")
	c = p.startWith(env, p.serveArgs()...)
	c.logged(`msg="a login endpoint does not ask for the client's secret"`, 2)
	p.reportsLogin(env, c, "the client is confidential")
}

// reportsLogin checks that doctor reports why at both login endpoints, or nothing if why is "",
// and that a running server is ready.
func (p *place) reportsLogin(env []string, c *child, why string) {
	p.t.Helper()
	out, errs, code := p.runWith(env, "doctor")
	n := 0
	if why != "" {
		n = 2
	}
	if strings.Count(out, "FAILED  login endpoint  ") != n || strings.Count(out, "and "+why) < n || strings.Count(out, "; run: keymill client ") != n || (code == 0) != (n == 0) {
		p.t.Errorf("doctor, code %d, wanted %q:\n%s%s", code, why, out, errs)
	}
	if c != nil {
		if status := c.ready(); status != http.StatusOK {
			p.t.Errorf("readyz answers %d", status)
		}
	}
}

// TestAHangingReceiverDelaysNothing: neither the end of the server nor other decisions.
func TestAHangingReceiverDelaysNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.writeKey("webhook.secret", goodHookSecret)
	asked, release, givenUp := make(chan bool, 100), make(chan bool), make(chan bool, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // the server notices a hang-up only behind the body
		asked <- true
		select {
		case <-release:
		case <-r.Context().Done():
			givenUp <- true
		}
	}))
	t.Cleanup(receiver.Close)
	t.Cleanup(func() { close(release) })
	c := p.startWith(p.hookEnv(receiver.URL), p.serveArgs()...)
	p.withAlice(t)
	p.must(nil, "user", "logout", "alice")
	select {
	case <-asked:
	case <-time.After(failsafe):
		t.Fatal("nothing was sent")
	}
	// Decisions that add more events do not wait for the receiver.
	p.must(nil, "user", "logout", "alice")
	p.must(nil, "user", "disable", "alice")
	select {
	case <-givenUp:
		t.Error("two decisions were answered only after the receiver had been given up")
	default:
	}
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(filepath.Join(p.data, "admin.sock")); err == nil {
		t.Error("the socket is left behind")
	}
}
