package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
	"keymill/storage/audit"
)

// logged returns the lines of requests that failed since the last call.
func (w *world) logged() []map[string]any {
	w.t.Helper()
	synctest.Wait() // lines of logins are written by other goroutines
	w.log.mu.Lock()
	text := w.log.b.String()
	w.log.b.Reset()
	w.log.mu.Unlock()
	var list []map[string]any
	for line := range strings.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			w.t.Fatalf("a line that is not JSON: %q", line)
		}
		if m["err"] != nil {
			list = append(list, m)
		}
	}
	return list
}

// want fails unless the line has each attribute of "name=value …".
func want(t *testing.T, what string, lines []map[string]any, attrs string) {
	t.Helper()
	if len(lines) != 1 {
		t.Errorf("%s: %d lines, want one: %v", what, len(lines), lines)
		return
	}
	for pair := range strings.SplitSeq(attrs, " ") {
		name, value, _ := strings.Cut(pair, "=")
		if got, ok := lines[0][name]; ok != (value != "") || ok && fmt.Sprint(got) != strings.ReplaceAll(value, "_of_", " ") {
			t.Errorf("%s: %s is %v, want %q, in %v", what, name, got, value, lines[0])
		}
	}
}

// withUsers adds users who cannot log in: bob is disabled and dave has no password.
func (w *world) withUsers() {
	w.withAlice()
	w.user("bob", "8")
	w.disable("bob", true)
	if _, err := w.issuer.AddUser(w.t.Context(), api.NewUser{ID: "9", Name: "dave"}, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) disable(name string, disabled bool) {
	w.t.Helper()
	if _, err := w.issuer.SetUser(w.t.Context(), name, api.UserChange{Disabled: &disabled}, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
}

// Only the log tells the cases apart. It never has what was typed as a name, because people type
// their password into that field.
//
// R98, R104.
func TestTheLogSaysWhyALoginIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withUsers()
		for _, path := range []string{"/api/token/", "/session/login"} {
			var first answer
			for _, tt := range []struct{ name, password, user, reason string }{
				{"alice", "pw_wrong", "7", "wrong_password"},
				{"bob", alicesPassword, "8", "disabled"},
				{"dave", alicesPassword, "9", "no_password"},
				{"pw_typed_as_name", "", "", "unknown_user"},
				{"alice pw_typed_as_name", "pw_wrong", "", "unknown_user"},
			} {
				if tt.password == "" {
					tt.password = "pw_none"
				}
				a := w.postJSON(path, credentials(tt.name, tt.password), "X-Forwarded-For: 192.0.2.9")
				if first.status == 0 {
					first = a
				}
				if a.status != 401 || a.body != first.body || !reflect.DeepEqual(a.header, first.header) {
					t.Errorf("%s: the client sees %d %v %s", tt.reason, a.status, a.header, a.body)
				}
				lines := w.logged()
				if tt.user == "" {
					if len(lines) != 0 {
						t.Errorf("a name that no user has: %v", lines)
					}
				} else {
					want(t, path, lines, "msg=login_of_refused level=INFO path="+path+" status=401 client=web from=192.0.2.9 user="+
						tt.user+" reason="+tt.reason+" session= until=")
				}
				if text := fmt.Sprint(lines); strings.Contains(text, "pw_") || strings.Contains(text, alicesPassword) {
					t.Errorf("the log has what was typed: %s", text)
				}
			}
		}
		counts := map[string]int{"wrong_password": 2, "disabled": 2, "no_password": 2, "unknown_user": 4}
		if got := w.server.refused.Take(); !reflect.DeepEqual(got, counts) {
			t.Errorf("counted for the audit log: %v, want %v", got, counts)
		}
		w.server.lines.Report()
		if log := w.log.String(); !strings.Contains(log, `"msg":"refused requests without a line of their own","unknown_user":4}`) {
			t.Errorf("logged %s", log)
		}
		w.server.lines.Report() // nothing since then
		if n := strings.Count(w.log.String(), "\n"); n != 1 {
			t.Errorf("%d lines", n)
		}
	}, trustsLoopback)
}

// R98, R104.
func TestTheLogSaysUntilWhenLoginsAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		for range limit.AccountFailures {
			w.postJSON("/api/token/", credentials("alice", "wrong"))
			w.postJSON("/api/token/", credentials("unknown", "wrong"))
		}
		w.logged()
		until := time.Now().Add(limit.Window).UTC().Format(time.RFC3339)
		for _, path := range []string{"/api/token/", "/session/login"} {
			known := w.postJSON(path, credentials("alice", alicesPassword))
			want(t, path, w.logged(), "msg=login_of_refused status=429 client=web user=7 reason=too_many_failures limit=account_at_address until="+until)
			unknown := w.postJSON(path, credentials("unknown", alicesPassword))
			if lines := w.logged(); len(lines) != 0 {
				t.Errorf("a name that no user has: %v", lines)
			}
			if known.status != 429 || known.status != unknown.status || known.body != unknown.body || !reflect.DeepEqual(known.header, unknown.header) {
				t.Errorf("clients see a difference: %v and %v", known, unknown)
			}
		}
		off := true
		w.setClient("web", api.ClientChange{Disabled: &off})
		for _, name := range []string{"alice", "unknown"} {
			a := do(t, w.from("198.51.100.7"), request(t, "/session/login", credentials(name, alicesPassword)))
			refusedToken(t, name, a, 503, "server_error")
			if lines := w.logged(); name == "alice" {
				want(t, "disabled client", lines, "msg=request_of_failed level=WARN client=web reason=client_not_allowed user=7")
			} else if len(lines) != 0 {
				t.Errorf("disabled client, a name that no user has: %v", lines)
			}
		}
	})
}

// A client that fails too often has the same attributes.
func TestTheLogSaysUntilWhenAClientIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for range limit.ClientFailures {
			w.post("grant_type=client_credentials", basic("billing", "kms_wrong"))
		}
		w.logged()
		until := time.Now().Add(limit.Window / limit.ClientFailures).UTC().Format(time.RFC3339)
		for path, form := range map[string]string{"/token": "grant_type=client_credentials", "/revoke": "token=x", "/introspect": "token=x"} {
			if a := w.postForm(path, form, basic("billing", w.secret)); a.status != 429 {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
			want(t, path, w.logged(), "msg=request_of_refused status=429 client=billing reason=too_many_failures limit=client until="+until)
		}
	})
}

// The answer must not tell by its time whether there is a line.
//
// R98.
func TestTheAnswerToALoginDoesNotWaitForTheLog(t *testing.T) {
	gate := make(chan struct{})
	var stuck *stuckHandler
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		gate = make(chan struct{}) // of the bubble
		stuck.gate = gate
		var took []time.Duration
		for n := range 2 * (limit.AccountFailures + 1) { // the last ones are refused by the limit
			began := time.Now()
			w.postJSON("/session/login", credentials([]string{"alice", "unknown"}[n%2], "wrong"))
			took = append(took, time.Since(began))
		}
		for n := range len(took) / 2 {
			if took[2*n] != took[2*n+1] {
				t.Errorf("a known name took %v, an unknown one %v", took[2*n], took[2*n+1])
			}
		}
		close(gate)
		if lines := w.logged(); len(lines) != limit.AccountFailures+1 {
			t.Errorf("%d lines", len(lines))
		}
	}, func(c *Config) {
		stuck = &stuckHandler{Handler: c.Log.Handler()}
		c.Log = slog.New(stuck)
	})
}

// A stuckHandler writes lines of refused logins only once its gate is open.
type stuckHandler struct {
	slog.Handler
	gate chan struct{}
}

func (h *stuckHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "login refused" {
		<-h.gate
	}
	return h.Handler.Handle(ctx, r)
}

// At every endpoint that takes a token, whatever is wrong with it.
//
// R104.
func TestTheLogSaysWhyATokenIsRefused(t *testing.T) {
	endpoints := []struct {
		path string
		ask  func(w *world, token string)
	}{
		{"/token", func(w *world, token string) { w.rotate(token) }},
		{"/api/token/refresh/", func(w *world, token string) { w.present("/api/token/refresh/", "refresh", token) }},
		{"/api/token/verify/", func(w *world, token string) { w.present("/api/token/verify/", "token", token) }},
		{"/session/refresh", func(w *world, token string) {
			w.send("POST", "/session/refresh", "", "Cookie: __Host-keymill-web="+token)
		}},
		{"/api/token/blacklist/", func(w *world, token string) { w.present("/api/token/blacklist/", "refresh", token) }}, // ends the session
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		for reason, change := range map[string]func(p *tokenPair){
			"disabled":  func(*tokenPair) { w.disable("alice", true) },
			"revoked":   func(p *tokenPair) { w.ask("/revoke", p.Refresh, "client_id=web") },
			"expired":   func(*tokenPair) { time.Sleep(25 * time.Hour) },
			"forged":    func(p *tokenPair) { p.Refresh = p.Refresh[:30] + swapped(p.Refresh[30]) + p.Refresh[31:] },
			"malformed": func(p *tokenPair) { p.Refresh = "kmr_pw_typed_here" },
		} {
			p := w.obtain()
			sid, _ := segment(t, p.Access, 1)["sid"].(string)
			change(&p)
			user, session := "7", sid
			if reason == "forged" || reason == "malformed" {
				user, session = "", ""
			}
			w.logged()
			for _, e := range endpoints {
				e.ask(w, p.Refresh)
				lines := w.logged()
				want(t, e.path, lines, "msg=request_of_refused level=INFO path="+e.path+" client=web user="+user+" session="+session+" reason="+reason)
				if text := fmt.Sprint(lines); strings.Contains(text, "kmr_") || strings.Contains(text, "pw_typed") {
					t.Errorf("the log has the token: %s", text)
				}
			}
			w.disable("alice", false)
		}
	})
}

// request makes a request to a bubble's server, for any address.
func request(t *testing.T, path string, body any) *http.Request {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest("POST", "http://127.0.0.1"+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// present posts a token to the simplejwt endpoint.
func (w *world) present(path, member, token string) answer {
	return w.postJSON(path, map[string]string{member: token})
}

// swapped returns another character of the alphabet of base64url.
func swapped(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// R104.
func TestAReplayIsAWarningWithItsFacts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice(func(c *api.NewClient) { c.Grace = "0s" })
		for path, replay := range map[string]func(token string){
			"/token": func(token string) {
				w.post("grant_type=refresh_token&client_id=web&refresh_token="+token, "X-Forwarded-For: 192.0.2.66")
			},
			"/api/token/refresh/": func(token string) {
				w.postJSON("/api/token/refresh/", map[string]string{"refresh": token}, "X-Forwarded-For: 192.0.2.66")
			},
			"/session/refresh": func(token string) {
				w.send("POST", "/session/refresh", "", "Cookie: __Host-keymill-web="+token, "X-Forwarded-For: 192.0.2.66")
			},
		} {
			p := w.obtain()
			sid, _ := segment(t, p.Access, 1)["sid"].(string)
			w.token(w.rotate(p.Refresh))
			w.logged()
			facts := "from=192.0.2.66 generation=0 current_generation=1 from_last_refresh_address=false login_from=127.0.0.1"
			replay(p.Refresh)
			want(t, path, w.logged(), "msg=refresh_of_token_of_replayed level=WARN reason=late_retry client=web user=7 session="+sid+" "+facts)
			replay(p.Refresh)
			want(t, path, w.logged(), "msg=request_of_refused level=INFO reason=revoked user=7 session="+sid+" generation=")
			if _, err := audit.Chain(t.Context(), w.store); err != nil {
				t.Fatal(err)
			}
			page, err := w.issuer.Audit(t.Context(), audit.Query{Limit: 100})
			last := slices.DeleteFunc(page.Records, func(r audit.Record) bool { return r.Target != sid || r.Action != "session.late_retry" })
			if err != nil || len(last) != 1 {
				t.Fatalf("%s: %v %v", path, last, err)
			}
			for pair := range strings.SplitSeq("user=7 client=web "+facts, " ") {
				if name, value, _ := strings.Cut(pair, "="); last[0].Detail[name] != value {
					t.Errorf("%s: %s is %q in the audit record, want %q", path, name, last[0].Detail[name], value)
				}
			}
		}
	}, trustsLoopback)
}

// leftOut returns the counts of the last line that reports them.
func (w *world) leftOut() map[string]int {
	w.t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(w.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			w.t.Fatal(err)
		}
		if m["msg"] != "refused requests without a line of their own" {
			continue
		}
		for name, n := range m {
			if n, ok := n.(float64); ok {
				counts[name] = int(n)
			}
		}
	}
	return counts
}

// TestAnAttackCannotFloodTheLog: what has no line is counted.
//
// R104.
func TestAnAttackCannotFloodTheLog(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		const requests = 300
		for range limit.AccountFailures {
			w.postJSON("/session/login", credentials("alice", "wrong"))
			w.postJSON("/session/login", credentials("unknown", "wrong"))
		}
		w.logged()
		for what, attack := range map[string]struct {
			send  func(n int)
			lines int
		}{
			"logins of a user":      {func(int) { w.postJSON("/session/login", credentials("alice", "wrong")) }, limit.CallerLines},
			"logins with any names": {func(int) { w.postJSON("/session/login", credentials("unknown", "wrong")) }, 0},
			"forged tokens":         {func(int) { w.rotate("kmr_forged") }, limit.CallerLines},
			"forged tokens from everywhere": {func(n int) {
				do(t, w.from(fmt.Sprintf("198.51.%d.%d", n>>8, n&255)), request(t, "/api/token/refresh/", map[string]string{"refresh": "x"}))
			}, limit.Lines},
		} {
			w.server.public.lines = limit.NewLog(w.server.cfg.Log)
			for n := range requests {
				attack.send(n)
			}
			lines, counted := len(w.logged()), 0
			w.server.public.lines.Report()
			for _, n := range w.leftOut() {
				counted += n
			}
			if lines != attack.lines || lines+counted != requests {
				t.Errorf("%s: %d lines and %d counted, want %d lines of %d", what, lines, counted, attack.lines, requests)
			}
		}
		// A replay still has its line.
		w.setClient("web", api.ClientChange{Grace: new("0s")})
		p := w.pairOf(do(t, w.from("192.0.2.1"), request(t, "/api/token/", credentials("alice", alicesPassword))))
		w.rotate(p.Refresh)
		w.rotate(p.Refresh)
		if lines := w.logged(); len(lines) != 1 || lines[0]["level"] != "WARN" {
			t.Errorf("a replay during an attack: %v", lines)
		}
	})
}

// TestOperatorsSeeAndLiftTheBlockOfAUser through the admin API.
func TestOperatorsSeeAndLiftTheBlockOfAUser(t *testing.T) {
	w := newWorld(t).withAlice()
	fail := func(account, from string, n int) {
		for range n {
			a, err := w.server.passwords.Enter(t.Context(), account, netip.MustParseAddr(from))
			if err != nil {
				t.Fatal(err)
			}
			a.Failed()
		}
	}
	show := func(method, path string) (u api.UserDetails) {
		if err := json.Unmarshal([]byte(w.expect(200, method, path, "").body), &u); err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := show("GET", "/admin/v1/user?user=alice")
	if u.ID != "7" || u.RecentFailures != 0 || u.BlockedUntil != nil || u.Blocked == nil || u.LastLogin != nil {
		t.Errorf("at first: %+v", u)
	}
	w.obtain()
	fail(w.countKey("7"), "192.0.2.1", limit.AccountFailures)
	fail(w.countKey("7"), "2001:db8::1", 2)
	fail("?alice", "203.0.113.5", 3) // not hers: no user had the name
	u = show("GET", "/admin/v1/user?user=7")
	if u.RecentFailures != limit.AccountFailures+2 || u.BlockedUntil == nil || !u.BlockedUntil.After(time.Now()) ||
		len(u.Blocked) != 1 || u.Blocked[0] != (api.BlockedLogin{From: "192.0.2.1", Until: *u.BlockedUntil}) || u.LastLogin == nil {
		t.Errorf("blocked: %+v", u)
	}
	w.expect(404, "POST", "/admin/v1/user/unblock?user=absent", "")
	u = show("POST", "/admin/v1/user/unblock?user=alice")
	if u.ID != "7" || u.RecentFailures != 0 || u.BlockedUntil != nil || len(u.Blocked) != 0 {
		t.Errorf("unblocked: %+v", u)
	}
	fail(w.countKey("7"), "192.0.2.1", 1) // it is let in
	if _, err := audit.Chain(t.Context(), w.store); err != nil {
		t.Fatal(err)
	}
	page, err := w.issuer.Audit(t.Context(), audit.Query{Limit: 100})
	records := slices.DeleteFunc(page.Records, func(r audit.Record) bool { return r.Action != "user.unblock" })
	if err != nil || len(records) != 1 || records[0].Target != "7" || !strings.HasPrefix(records[0].By, "uid:") || records[0].Detail["name"] != "alice" {
		t.Errorf("audited %v, %v", records, err)
	}
}

// TestNoReasonReachesAClient, however it is nested in an error.
func TestNoReasonReachesAClient(t *testing.T) {
	refused := refusal.New("invalid_credentials", "the user name or the password is wrong")
	refused.Cause = refusal.Because("disabled", "the user is disabled")
	limited := &limit.Error{RetryAfter: time.Second, Limit: limit.LimitAddress}
	for _, err := range []error{
		refused, &clientError{"web", refused}, fmt.Errorf("login: %w", refused), limited,
		refusal.New("unauthorized_client", "client is not allowed the refresh_token grant"),
	} {
		reason := &refusal.Reason{Code: "disabled", Login: true, User: "7", Session: "0abc", Until: time.Now(), Facts: map[string]string{"limit": "x"}, Err: err}
		plain, wrapped := replyTo(err, unavailable{}), replyTo(&clientError{"web", reason}, unavailable{})
		if !reflect.DeepEqual(plain, wrapped) {
			t.Errorf("%v: the reply is %+v, want %+v", err, wrapped, plain)
		}
		for _, format := range []func(reply) reply{
			func(a reply) reply { return formatBrowser(nil, a, reason) },
			func(a reply) reply { return formatSimpleJWT(request(t, "/", ""), a, reason) },
			func(a reply) reply { return a },
		} {
			b, _ := json.Marshal(format(wrapped).body)
			if bytes.Contains(b, []byte("disabled")) || bytes.Contains(b, []byte("0abc")) || bytes.Contains(b, []byte(`"7"`)) {
				t.Errorf("the client reads %s", b)
			}
		}
	}
}
