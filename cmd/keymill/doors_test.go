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

	"keymill/issuer/api"
)

// withAlice makes what people need to log in, and the user alice (7).
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

// TestTheWebhookTellsAndTheReceiverCanVerifyIt with the lines of docs/people.md.
func TestTheWebhookTellsAndTheReceiverCanVerifyIt(t *testing.T) {
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

// verifyDelivery runs the program of docs/people.md on a delivery, and on one that was changed.
func verifyDelivery(t *testing.T, d delivery) {
	t.Helper()
	page, err := os.ReadFile("../../docs/people.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(page), "```python\n")
	code, _, closed := strings.Cut(code, "```")
	if !found || !closed {
		t.Fatal("docs/people.md has no program that verifies")
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

// TestADoorWithoutItsClientIsAWarningWithTheLineToType, and the line is right.
func TestADoorWithoutItsClientIsAWarningWithTheLineToType(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	env := append(p.env(), "KEYMILL_SIMPLEJWT_CLIENT=web", "KEYMILL_SESSION_CLIENT=web")
	c := p.startWith(env, p.serveArgs()...)
	const line = `keymill client add web --public --grant refresh_token --audience AUDIENCE --origin https://app.example`
	if got := c.errs.String(); strings.Count(got, line) != 2 || !strings.Contains(got, "setting=simplejwt.client") || !strings.Contains(got, "setting=session.client") {
		t.Errorf("the log:\n%s", got)
	}
	if status, _ := login(t, c, "alice", "correct horse battery"); status != http.StatusServiceUnavailable {
		t.Errorf("a door without a client answers %d", status)
	}
	p.must(nil, "audience", "add", "AUDIENCE", "--alg", "RS256")
	p.must(nil, strings.Fields(line)[1:]...)
	p.shell(t, []string{"echo correct horse battery | " + program(t) + " user add alice --password-stdin --data " + p.data})
	if status, body := login(t, c, "alice", "correct horse battery"); status != http.StatusOK {
		t.Errorf("the door stays shut: %d %s", status, body)
	}
	for _, step := range []struct{ line, reason string }{
		{"client disable web", `reason="the client is disabled" type="keymill client enable web"`},
		{"client enable web", ""},
		{"client set web --grant=", `type="keymill client set web --grant refresh_token"`},
		{"client set web --grant refresh_token --audience=", `type="keymill client set web --audience AUDIENCE"`},
	} {
		p.must(nil, strings.Fields(step.line)...)
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
		c = p.startWith(env, p.serveArgs()...)
		got := c.errs.String()
		if step.reason == "" && strings.Contains(got, "level=WARN") || step.reason != "" && strings.Count(got, step.reason) != 2 {
			t.Errorf("after %s:\n%s", step.line, got)
		}
	}
}

// TestAWebhookThatWaitsKeepsNobodyFromStopping: a receiver may hang for as long as it likes.
func TestAWebhookThatWaitsKeepsNobodyFromStopping(t *testing.T) {
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
	// Nobody waits for it either: not who decides about more events, and not who logs in.
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

// TestADoorsClientThatDoesNotFitIsNamed, with a line that takes nothing away from it.
func TestADoorsClientThatDoesNotFitIsNamed(t *testing.T) {
	fit := api.Client{Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"a"}}
	several, service := fit, fit
	several.Audiences = []string{"a", "b"}
	service.Grants = []string{"client_credentials"}
	for _, tt := range []struct {
		client      api.Client
		oneAudience bool
		why, typed  string
	}{
		{fit, true, "", ""},
		{several, false, "", ""},
		{several, true, "several audiences", "keymill client add NAME --public"},
		{service, true, "grant refresh_token", "keymill client set web --grant client_credentials --grant refresh_token"},
	} {
		why, typed := shutDoor("web", tt.client, true, tt.oneAudience)
		if !strings.Contains(why, tt.why) || !strings.HasPrefix(typed, tt.typed) || (why == "") != (tt.why == "") {
			t.Errorf("%+v: %q, %q", tt, why, typed)
		}
	}
}
