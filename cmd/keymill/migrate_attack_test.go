package main

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An attacker sends garbage and an old refresh token to a server while its store is moved.
type attacker struct {
	t      *testing.T
	base   atomic.Value // string: URL of the server
	old    string       // a token whose family went on
	sent   atomic.Int64
	replay atomic.Int64 // answers to the old token that are a refusal
	loops  sync.WaitGroup
}

func newAttacker(t *testing.T, server *child, old string, stop chan struct{}) *attacker {
	a := &attacker{t: t, old: old}
	a.base.Store(server.url(""))
	for range 2 {
		a.loops.Go(func() {
			for !isClosed(stop) {
				a.attack()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	return a
}

// attack sends each kind of request once. Each answer is a refusal, or says that the store is moved.
func (a *attacker) attack() {
	const form, json = "application/x-www-form-urlencoded", "application/json"
	for _, r := range []struct{ path, kind, body string }{
		{"/token", form, "grant_type=refresh_token&client_id=web&refresh_token=" + strings.Repeat("kmr_", 200)},
		{"/token", form, "%zz&&=" + strings.Repeat("\x00\xff", 500)},
		{"/token", json, strings.Repeat("[", 10_000)},
		{"/api/token/", json, `{"username":"alice","password":"` + strings.Repeat("x", 5000) + `"}`},
		{"/api/token/refresh/", json, `{"refresh":` + strings.Repeat(`{"refresh":`, 2000)},
		{"/revoke", form, "client_id=web&token=" + url.QueryEscape("kmr_\x00")},
		{"/api/token/refresh/", json, `{"refresh":"` + a.old + `"}`},
	} {
		resp, err := http.Post(a.base.Load().(string)+r.path, r.kind, strings.NewReader(r.body))
		if err != nil {
			continue // the server is being started or stopped
		}
		resp.Body.Close()
		a.sent.Add(1)
		moving := resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != ""
		refused := resp.StatusCode >= 400 && resp.StatusCode < 500
		if !moving && !refused && r.path != "/revoke" { // which knows no wrong token (RFC 7009, section 2.2)
			a.t.Errorf("%s %.60q: %s", r.path, r.body, resp.Status)
		}
		if refused && strings.Contains(r.body, a.old) {
			a.replay.Add(1)
		}
	}
}

// TestAnAttackDuringAMigrationChangesNothing: garbage and a replay arrive all the time. The migration ends, users go on, and
// the session whose old token was replayed has ended, and no other one.
func TestAnAttackDuringAMigrationChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	p := newPlace(t)
	source := p.startWith(append(p.env(), sharedEnv...), p.serveArgs("--init")...)
	m := newMigrating(t, p, source)
	victim := source.login("alice", "correct horse battery")
	stolen := victim.Refresh
	for range 2 { // so that the first token is older than the grace allows
		_, victim = source.refresh(victim.Refresh)
	}
	stop := make(chan struct{})
	out := make(chan string)
	go func() { out <- p.must(nil, "migrate", "--from", p.data, "--to", c.url) }()
	a := newAttacker(t, source, stolen, stop)
	if text := <-out; !strings.Contains(text, "compared each") {
		t.Error(text)
	}
	target := c.place().startShared()
	m.goTo(target)
	a.base.Store(target.url(""))
	if !eventually(failsafe, func() bool { return a.sent.Load() >= 20 && a.replay.Load() > 0 || t.Failed() }) {
		t.Errorf("%d requests, and the replay was refused %d times", a.sent.Load(), a.replay.Load())
	}
	m.goOn(5)
	close(stop)
	a.loops.Wait()
	m.end()
	if status, _ := target.refresh(victim.Refresh); status == http.StatusOK {
		t.Error("the session whose old token was replayed goes on")
	}
	for _, log := range []string{source.errs.String(), target.errs.String()} {
		if strings.Contains(log, "panic") || strings.Contains(log, "damaged") {
			t.Error(log)
		}
	}
}
