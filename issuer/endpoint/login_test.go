package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer"
	"keymill/issuer/endpoint/limit"
	"keymill/storage/audit"
)

const throttledBody = `{"detail":"Request was throttled. Expected available in %d seconds."}`

// R99.
func TestBothLoginEndpointsShareTheFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		for n := range limit.AccountFailures {
			if a := w.postJSON([]string{"/api/token/", "/session/login"}[n%2], credentials("alice", "wrong")); a.status != 401 {
				t.Fatalf("failure %d: %d %s", n, a.status, a.body)
			}
		}
		a := w.postJSON("/api/token/", credentials("alice", alicesPassword))
		var wait int
		if fmt.Sscan(a.header.Get("Retry-After"), &wait); a.status != 429 || wait != int(limit.Window.Seconds()) || a.body != fmt.Sprintf(throttledBody, wait) {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
		a = w.loginByCookie()
		refusedToken(t, "session", a, 429, "temporarily_unavailable")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		synctest.Wait()
		if log := w.log.String(); !strings.Contains(log, "too many failed attempts") {
			t.Error("the log does not say why")
		}
	})
}

// TestAllSpellingsOfANameShareOneCount: a name in full-width letters is the same name, and white space
// around a name is removed.
//
// R99.
func TestAllSpellingsOfANameShareOneCount(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		for n := range limit.AccountFailures {
			w.postJSON("/api/token/", credentials([]string{"alice", "\uff41\uff4c\uff49\uff43\uff45", " alice", "\uff41lice"}[n%4], "wrong"))
		}
		for _, name := range []string{"alice", "\uff41\uff4c\uff49\uff43\uff45", "alice\u3000"} {
			if a := w.postJSON("/session/login", credentials(name, alicesPassword)); a.status != 429 {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
	})
}

// R99.
func TestAnUnknownNameIsLimitedLikeAKnownOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		for range limit.AccountFailures {
			w.postJSON("/api/token/", credentials("unknown", "wrong"))
		}
		if a := w.postJSON("/api/token/", credentials("unknown", "wrong")); a.status != 429 {
			t.Errorf("%d", a.status)
		}
		w.obtain()
	})
}

// R99.
func TestParallelGuessesAreLimitedToo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		var mu sync.Mutex
		got := map[int]int{}
		var all sync.WaitGroup
		for range 4 * limit.AccountFailures {
			all.Go(func() {
				a := w.postJSON("/session/login", credentials("alice", "wrong"))
				mu.Lock()
				got[a.status]++
				mu.Unlock()
			})
		}
		all.Wait()
		if got[401] != limit.AccountFailures || got[429] != 3*limit.AccountFailures {
			t.Errorf("got %v", got)
		}
	})
}

// R99.
func TestFailuresBehindATrustedProxyCountForTheClientsAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		for n := range limit.AccountFailures {
			w.postJSON("/api/token/", credentials("alice", "wrong"), fmt.Sprintf("X-Forwarded-For: 2001:db8::%x", n+1))
		}
		if a := w.postJSON("/api/token/", credentials("alice", alicesPassword), "X-Forwarded-For: 2001:db8::ffff"); a.status != 429 {
			t.Errorf("the same /64: %d", a.status)
		}
		began := time.Now()
		w.pairOf(w.postJSON("/api/token/", credentials("alice", alicesPassword), "X-Forwarded-For: 192.0.2.9"))
		if took := time.Since(began); took != limit.FirstDelay {
			t.Errorf("a new address waited %v, want %v", took, limit.FirstDelay)
		}
		began = time.Now()
		w.pairOf(w.postJSON("/api/token/", credentials("alice", alicesPassword), "X-Forwarded-For: 192.0.2.9"))
		if took := time.Since(began); took != 0 {
			t.Errorf("a known address waited %v", took)
		}
	}, trustsLoopback)
}

func TestManyLoginsFromOneAddressSucceed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.user("bob", "8")
		var all sync.WaitGroup
		for n := range 60 {
			all.Go(func() {
				a := w.postJSON("/api/token/", credentials([]string{"alice", "bob"}[n%2], alicesPassword))
				if a.status != 200 {
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		all.Wait()
	})
}

func TestABusyErrorIsA429InBothFormats(t *testing.T) {
	err := &clientError{"web", fmt.Errorf("login: %w", &issuer.BusyError{RetryAfter: 1500 * time.Millisecond})}
	a := replyTo(err, unavailable{code: "temporarily_unavailable"})
	if a.status != 429 || seconds(a.retryAfter) != 2 {
		t.Errorf("%d %v", a.status, a.retryAfter)
	}
	b, _ := json.Marshal(formatSimpleJWT(nil, a, err).body)
	if string(b) != fmt.Sprintf(throttledBody, 2) {
		t.Errorf("%s", b)
	}
	if a := replyTo(&issuer.BusyError{}, unavailable{}); a.retryAfter != time.Second {
		t.Errorf("%v", a.retryAfter)
	}
}

// R104.
func TestLoginEndpointsLogNoSecret(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) { w.withAlice().checkNoSecretIsLogged() })
}

func (w *world) checkNoSecretIsLogged() {
	t := w.t
	p := w.obtain()
	cookie := w.cookieOf(w.loginByCookie())
	_, value, _ := strings.Cut(cookie, "=")
	next := w.pairOf(w.postJSON("/api/token/refresh/", map[string]string{"refresh": p.Refresh}))
	w.postJSON("/api/token/", credentials("pw_as_name", "alice"))
	w.postJSON("/session/login", credentials("pw_as_name", alicesPassword))
	w.postJSON("/api/token/", credentials("evil\r\n\x1b[31mforged=1", "pw_wrong_one"))
	w.postJSON("/api/token/", `{"username":"alice","password":"pw_in_broken_json"`)
	w.postJSON("/api/token/", `{"username":"alice","password":["pw_in_a_list"]}`)
	w.send("POST", "/api/token/", "username=alice&password=pw_in_a_form;x", formHeader)
	w.send("POST", "/api/token/", "pw_in_text", "Content-Type: text/plain")
	w.postJSON("/api/token/verify/", map[string]string{"token": "pw_as_token"})
	w.postJSON("/session/login", credentials("alice", "pw_at_session"))
	w.postJSON("/session/login", `{"username":"alice","password":"pw_twice","password":"pw_twice"}`)
	w.send("POST", "/session/refresh", "", "Cookie: __Host-keymill-web=kmr_forged_cookie")
	w.send("POST", "/session/refresh", "", "Cookie: "+cookie, "Origin: https://evil.example")
	w.postJSON("/api/token/blacklist/", map[string]string{"refresh": next.Refresh})
	w.ask("/revoke", "kmr_revoked_one", "client_id=web")
	w.failUpdates(true)
	w.send("POST", "/session/refresh", "", "Cookie: "+cookie)
	w.postJSON("/api/token/", credentials("alice", alicesPassword))

	synctest.Wait()
	w.server.lines.Report()
	log := w.log.String()
	for _, secret := range []string{
		alicesPassword, p.Access, p.Refresh, next.Access, next.Refresh, value, "pw_", "kmr_", "forged=1", "forged_cookie",
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
	logins := 0
	for line := range strings.Lines(log) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("a line that is not JSON: %q", line)
		}
		if m["msg"] == "logged in" {
			logins++
			if m["user"] != "7" || m["client"] != "web" || m["from"] != "127.0.0.1" {
				t.Errorf("%s", line)
			}
		}
	}
	if logins != 2 || !strings.Contains(log, `"client":"web","from":"127.0.0.1","user":"7","reason":"wrong_password","err":"invalid_credentials`) {
		t.Errorf("%d logins in %s", logins, log)
	}
}

// R104.
func TestRefusedLoginsLeaveOneRecordAMinute(t *testing.T) {
	w := newWorld(t).withAlice()
	for range 3 {
		w.postJSON("/api/token/", credentials("alice", "wrong"))
	}
	w.post("grant_type=client_credentials", basic("billing", "kms_wrong"))
	w.postJSON("/api/token/verify/", map[string]string{"token": "x"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.server.Run(ctx) }()
	w.failUpdates(true)
	w.server.auditRefusals(ctx) // fails and keeps the counts
	w.failUpdates(false)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if left := w.server.refused.Take(); len(left) > 0 {
		t.Errorf("the last record was not written: %v", left)
	}
	if _, err := audit.Chain(t.Context(), w.store); err != nil {
		t.Fatal(err)
	}
	page, err := w.issuer.Audit(t.Context(), audit.Query{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, rec := range page.Records {
		if rec.Action == "login.refused" {
			found = append(found, fmt.Sprint(rec.Detail))
		}
	}
	if len(found) != 1 || found[0] != "map[invalid_client:1 wrong_password:3]" {
		t.Errorf("found %v", found)
	}
}
