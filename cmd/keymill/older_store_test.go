package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAnAcceptedOlderStoreEndsAllSessions and tells the webhook, which then ends the sessions that
// services keep of their own.
func TestAnAcceptedOlderStoreEndsAllSessions(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.writeKey("webhook.secret", goodHookSecret)
	got := make(chan string, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}))
	t.Cleanup(receiver.Close)
	env := append(p.hookEnv(receiver.URL), "KEYMILL_SIMPLEJWT_CLIENT=web")
	stop := func(c *child) {
		t.Helper()
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 0 {
			t.Fatalf("exit code %d", code)
		}
	}

	c := p.startWith(env, p.serveArgs()...)
	p.withAlice(t)
	status, body := login(t, c, "alice", "correct horse battery")
	var pair struct{ Refresh string }
	if err := json.Unmarshal([]byte(body), &pair); err != nil || status != 200 {
		t.Fatalf("login: %d %s", status, body)
	}
	stop(c)
	older, err := os.ReadFile(p.store())
	if err != nil {
		t.Fatal(err)
	}
	stop(p.startWith(env, p.serveArgs()...))

	p.overwrite(string(older))
	_, errs, code := p.runWith(env, p.serveArgs()...)
	_, token, found := strings.Cut(errs, "--accept-older-store ")
	if code != 1 || !found {
		t.Fatalf("code %d\n%s", code, errs)
	}
	c = p.startWith(env, p.serveArgs("--accept-older-store", strings.TrimSpace(token))...)
	resp, err := http.Post(c.url("/api/token/refresh/"), "application/json", strings.NewReader(`{"refresh":"`+pair.Refresh+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a refresh answers %d", resp.StatusCode)
	}
	select {
	case event := <-got:
		if !strings.HasPrefix(event, `{"type":"store.revoked",`) {
			t.Errorf("the webhook got %s", event)
		}
	case <-time.After(failsafe):
		t.Error("the webhook got nothing")
	}
	if status, body := login(t, c, "alice", "correct horse battery"); status != 200 {
		t.Errorf("a new login: %d %s", status, body)
	}
	stop(c)
	stop(p.startWith(env, p.serveArgs()...))
}
