package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/sealed"
)

// R104.
func TestLogsNameTheDecisionAndNoSecret(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.post(w.good()))
	header := basic("billing", w.secret)
	w.post("grant_type=client_credentials", header)
	w.post("grant_type=client_credentials", basic("billing", "kms_a_wrong_one"))
	w.post("grant_type=client_credentials&client_id=evil%0d%0a%1b[31mforged=1&client_secret=kms_a_wrong_one")
	w.post("grant_type=client_credentials&client_secret=kms_in_a_body;broken")
	w.send("GET", "/readyz", "", "Authorization: Bearer "+token, "Cookie: session=kms_cookie")
	w.send("POST", "/token", "kms_raw_body", "Authorization: Basic kms_header")
	created := w.askAdmin("POST", "/admin/v1/clients", `{"client_id":"fresh"}`).json(t)["client_secret"].(string)
	w.askAdmin("POST", "/admin/v1/clients", `{"client_id":"fresh","secret":"kms_in_admin_body"}`)
	w.askAdmin("POST", "/admin/v1/keys/import", `{"key":"kms_private_key_text"}`)
	w.store.Close() // now every request is a fault
	w.post("grant_type=client_credentials", header)

	log := w.log.String()
	_, encoded, _ := strings.Cut(header, "Basic ")
	for _, secret := range []string{
		w.secret, token, encoded, created, "a_wrong_one", "in_a_body", "raw_body", "kms_header", "kms_cookie", "in_admin_body", "private_key_text",
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
	var messages []string
	for line := range strings.Lines(log) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("a line that is not JSON: %q", line)
		}
		messages = append(messages, fmt.Sprint(m["msg"], " ", m["client"]))
	}
	all := strings.Join(messages, "\n")
	for _, want := range []string{"token issued billing", "request refused billing", "request refused unknown", "administration"} {
		if !strings.Contains(all, want) {
			t.Errorf("no line %q in\n%s", want, all)
		}
	}
}

// R105.
func TestAPanicFailsOnlyItsRequest(t *testing.T) {
	w := newWorld(t)
	w.server.public.get("/panic", func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "public, max-age=300")
		panic("something private")
	})
	a := w.send("GET", "/panic", "")
	refusedToken(t, "panic", a, 500, "server_error")
	if strings.Contains(a.body, "private") || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s", a.header, a.body)
	}
	if n := strings.Count(w.log.String(), "something private"); n != 1 || !strings.Contains(w.log.String(), `"level":"ERROR"`) {
		t.Errorf("logged %d times", n)
	}
	w.token(w.post(w.good()))
}

// R105.
func TestFaultsAreGeneric(t *testing.T) {
	w := newWorld(t)
	w.server.public.get("/fault", func(http.ResponseWriter, *http.Request) error { return errors.New("open /private/path") })
	a := w.send("GET", "/fault", "")
	refusedToken(t, "fault", a, 500, "server_error")
	if strings.Contains(a.body, "private") {
		t.Error(a.body)
	}
}

func TestErrorsHaveTheDocumentedStatus(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, tt := range []struct {
		err    error
		status int
		body   string // part of it
		retry  time.Duration
	}{
		{refusal.New("invalid_client", "x"), 401, `"invalid_client"`, 0},
		{refusal.New("invalid_grant", "x"), 400, `"invalid_grant"`, 0},
		{fmt.Errorf("wrapped: %w", refusal.New("in_use", "x")), 409, `"in_use"`, 0},
		{&clientError{"a", refusal.New("not_found", "x")}, 404, `"not_found"`, 0},
		{&keystore.InvalidError{Code: "already_exists", Description: "a \"quoted\" kid"}, 409, `a 'quoted' kid`, 0},
		{&keystore.NotReadyError{Alg: "EdDSA", At: at}, 409, `"at":"2026-01-02T02:04:05Z"`, 0},
		{&keystore.NotReadyError{Alg: "EdDSA"}, 409, `"at":null`, 0},
		{&keystore.UnavailableError{Reason: "x", RetryAfter: 7 * time.Second}, 503, `"busy"`, 7 * time.Second},
		{&keystore.UnavailableError{Reason: "x"}, 503, `"busy"`, time.Second},
		{storage.ErrUnknownOutcome, 503, `"busy"`, 5 * time.Second},
		{fmt.Errorf("x: %w", storage.ErrNoSpace), 503, `"busy"`, 5 * time.Second},
		{fmt.Errorf("x: %w", storage.ErrUnavailable), 503, `"busy"`, 5 * time.Second},
		{storage.ErrLimit, 500, `"server_error"`, 0},
		{errors.New("x"), 500, `"server_error"`, 0},
	} {
		a := replyTo(tt.err, unavailable{code: "busy"})
		b, err := json.Marshal(a.body)
		if err != nil || a.status != tt.status || !bytes.Contains(b, []byte(tt.body)) || a.retryAfter != tt.retry {
			t.Errorf("%v: %d %s %v", tt.err, a.status, b, a.retryAfter)
		}
	}
}

func TestAClosedStoreIsA503(t *testing.T) {
	w := newWorld(t)
	w.store.Close()
	a := w.post(w.good())
	refusedToken(t, "closed", a, 503, "temporarily_unavailable")
	if a.header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
	}
	if a := w.send("GET", "/.well-known/jwks.json", ""); a.status != 200 {
		t.Errorf("the key set is not served: %d", a.status)
	}
	if a := w.askAdmin("GET", "/admin/v1/clients", ""); a.status != 503 || a.code(t) != "unavailable" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestHealthAndReadinessReportIssues(t *testing.T) {
	w := newWorld(t)
	if a := w.send("GET", "/healthz", ""); a.status != 200 || a.body != "ok" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %q", a.status, a.body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := w.send("HEAD", path, ""); a.body != "" || a.status == 405 {
			t.Errorf("HEAD %s: %d", path, a.status)
		}
	}
}

// TestReadyzDoesNotSayWhy: a client learns whether the server is ready, the administrator also why.
func TestReadyzDoesNotSayWhy(t *testing.T) {
	w := newWorld(t)
	good := w.keys.Published()
	bad := keystore.PublicKey{KID: "odd", Alg: "HS256", Public: []byte("x")}
	failed := errors.New("fdatasync: /private/path")
	for what, spoil := range map[string]func(){
		"": func() {},
		"the store has failed and accepts no more requests": func() { w.storeFail = failed },
		"key odd is not published: ":                        func() { w.server.cfg.KeySet.Publish(append(good, bad)) },
		"requests key odd is not published":                 func() { w.storeFail = failed; w.server.cfg.KeySet.Publish(append(good, bad)) },
	} {
		w.storeFail = nil
		w.server.cfg.KeySet.Publish(good)
		spoil()
		status, body := 503, `{"ready":false}`
		if what == "" {
			status, body = 200, `{"ready":true}`
		}
		for _, method := range []string{"GET", "HEAD"} {
			a := w.send(method, "/readyz", "")
			if method == "HEAD" {
				body = ""
			}
			if a.status != status || a.body != body || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%q, %s: %d %s", what, method, a.status, a.body)
			}
		}
		told := w.expect(200, "GET", "/admin/v1/status", "")
		issues := fmt.Sprint(told.json(t)["issues"])
		if told.json(t)["ready"] != (what == "") || !strings.Contains(issues, what) || strings.Contains(issues, "private") {
			t.Errorf("%q: the admin API says %s", what, told.body)
		}
	}
}

// TestTheLogSaysWhyTheServerIsNotReady once for each change, however often /readyz is asked.
func TestTheLogSaysWhyTheServerIsNotReady(t *testing.T) {
	var failed atomic.Pointer[error]
	inBubble(t, func(t *testing.T, w *world) {
		good := w.keys.Published()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.server.Run(ctx)
		second := func() {
			time.Sleep(readyEvery)
			synctest.Wait()
			for range 3 {
				w.send("GET", "/readyz", "")
			}
		}
		lines := func() (list []string) {
			for line := range strings.Lines(w.log.String()) {
				var m struct{ Level, Msg, Issues string }
				if json.Unmarshal([]byte(line), &m) == nil && strings.Contains(m.Msg, "ready") {
					list = append(list, strings.TrimSpace(m.Level+" "+m.Msg+" "+m.Issues))
				}
			}
			return list
		}
		storeFault := errors.New("fdatasync: input/output error")
		for range 2 {
			second()
			failed.Store(&storeFault)
			second()
			second()
			w.server.cfg.KeySet.Publish([]keystore.PublicKey{{KID: "odd", Alg: "HS256", Public: []byte("x")}})
			second()
			failed.Store(nil)
			w.server.cfg.KeySet.Publish(good)
			second()
			second()
		}
		got := lines()
		if len(got) != 6 {
			t.Fatalf("%d lines: %q", len(got), got)
		}
		for n, want := range []string{
			"WARN not ready the store has failed and accepts no more requests",
			"WARN not ready the store has failed and accepts no more requests; key odd is not published: ",
			"INFO ready again",
		} {
			if !strings.HasPrefix(got[n], want) || !strings.HasPrefix(got[n+3], want) {
				t.Errorf("%q and %q, want %q", got[n], got[n+3], want)
			}
		}
	}, func(c *Config) {
		c.StoreFailed = func() error {
			if err := failed.Load(); err != nil {
				return *err
			}
			return nil
		}
	})
}

// TestAStoreThatHasEndedIsOneIssue, whether the store or its answer says so, and the log says once that it is so: the
// process says why it ends.
func TestAStoreThatHasEndedIsOneIssue(t *testing.T) {
	w := newWorld(t)
	w.server.refused.Add(map[string]int{"wrong_password": 1})
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	for want, fail := range map[string]error{
		"the store has failed and accepts no more requests": storage.ErrUnknownOutcome,
		"the store is closed; the server stops":             &sealed.LifeError{Own: 1, Store: 2},
		"":                                                  nil,
	} {
		if w.storeFail = fail; fail == nil {
			want = "the store is closed; the server stops"
		}
		if got := w.server.checks.Issues(); !slices.Equal(got, []string{want}) {
			t.Errorf("%v: %q", fail, got)
		}
		w.server.auditRefusals(t.Context())
	}
	if log := w.log.String(); strings.Contains(log, "not audited") {
		t.Error(log)
	}
}

// Bounds of package readiness.
const readyFor, commitTime = 5 * time.Second, 5 * time.Second

// TestAStoreThatHangsIsNotReady, and the session check, which can wait for the same commit, delays no answer.
func TestAStoreThatHangsIsNotReady(t *testing.T) {
	var since atomic.Pointer[time.Time]
	inBubble(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.server.Run(ctx)
		is := func(want bool) {
			t.Helper()
			time.Sleep(readyEvery)
			synctest.Wait()
			if got := w.server.Ready(); got != want || (w.send("GET", "/readyz", "").status == 200) != want {
				t.Errorf("ready is %v", got)
			}
		}
		is(true)
		for range 2 { // a commit that hangs, and one that begins again and again
			since.Store(new(time.Now()))
			for range commitTime/readyEvery - 1 {
				is(true)
			}
			since.Store(new(time.Now()))
			time.Sleep(commitTime)
			is(false)
			is(false)
			since.Store(new(time.Time))
			is(true)
		}
		if log := w.log.String(); strings.Count(log, `"not ready","issues":"the store hangs: a commit has not ended within 5s"`) != 2 || strings.Count(log, `"ready again"`) != 2 {
			t.Error(log)
		}
	}, func(c *Config) {
		since.Store(new(time.Time))
		c.CommitSince = func() time.Time { return *since.Load() }
	})
}

func TestADevelopmentServerAnswersToItsOwnNamesOnly(t *testing.T) {
	w := newWorld(t)
	w.server.cfg.TrialHosts = []string{"127.0.0.1", "localhost:8420", "[::1]"}
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:9": 200, "LOCALHOST:8420": 200, "localhost": 421, "[::1]": 200, "[::1]:8420": 200,
		"evil.example": 421, "127.0.0.1.evil.example": 421, "evil.example:8420": 421,
	} {
		if a := w.send("GET", "/healthz", "", "Host: "+host); a.status != want {
			t.Errorf("%s: %d", host, a.status)
		}
	}
	refusedToken(t, "token", w.post(w.good(), "Host: evil.example"), 421, "invalid_request")
}

func TestOnlyTheClientsOriginsMayReadTokens(t *testing.T) {
	w := newWorld(t)
	app, other := []string{"https://app.example"}, []string{"https://other.example"}
	if _, err := w.issuer.SetClient(t.Context(), "billing", api.ClientChange{Origins: &app}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	w.client("second")
	if _, err := w.issuer.SetClient(t.Context(), "second", api.ClientChange{Origins: &other}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	const allow = "Access-Control-Allow-Origin"
	preflight := func(origin string) answer {
		return w.send("OPTIONS", "/token", "", "Origin: "+origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
	}
	for origin, known := range map[string]bool{
		app[0]: true, other[0]: true, "https://evil.example": false, "null": false, "*": false, "https://app.example.evil": false, "http://app.example": false,
	} {
		a := preflight(origin)
		if known != (a.status == 204) || known != (a.header.Get(allow) == origin) || a.header.Get("Vary") != preflightVary {
			t.Errorf("preflight of %s: %d %v", origin, a.status, a.header)
		}
	}
	for _, tt := range []struct {
		what, body, origin string
		want               string
	}{
		{"token", w.good(), app[0], app[0]},
		{"refusal after authentication", w.good("scope=none"), app[0], app[0]},
		{"another client's origin", w.good(), other[0], ""},
		{"unknown origin", w.good(), "https://evil.example", ""},
		{"wrong secret", "grant_type=client_credentials&client_id=billing&client_secret=x", app[0], ""},
		{"unknown client", "grant_type=client_credentials&client_id=x&client_secret=x", app[0], ""},
		{"broken form", w.good("grant_type=x"), app[0], ""},
	} {
		a := w.post(tt.body, "Origin: "+tt.origin)
		if a.header.Get(allow) != tt.want || a.header.Get("Vary") != "Origin" || a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %v", tt.what, a.header)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/nowhere"} {
		if a := w.send("GET", path, "", "Origin: "+app[0]); a.header.Get(allow) != "" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
}

func TestOnlyTheAdminAPISaysWhyTheServerIsUnavailable(t *testing.T) {
	err := fmt.Errorf("commit: %w", storage.ErrNoSpace)
	public, admin := replyTo(err, unavailable{code: "b"}).body.(api.ErrorResponse), replyTo(err, unavailable{code: "b", withReason: true}).body.(api.ErrorResponse)
	if strings.Contains(public.Description, "disk") || !strings.Contains(admin.Description, "disk is full") {
		t.Errorf("public: %q, admin: %q", public.Description, admin.Description)
	}
}
