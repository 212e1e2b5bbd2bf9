package endpoint

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// cheapHash costs almost nothing, so failed logins of its user wait the longest for their answer.
const cheapHash = refusal.Secret("pbkdf2_sha256$1000$seasalt$66D58GdSNziOCLUou6tWdn1bGVonTm+Mq1bk1UmsLPI=")

func (w *world) imported(name, id string, hash refusal.Secret) {
	w.t.Helper()
	u := api.ImportedUser{ID: id, Name: name, Hash: hash}
	if _, err := w.issuer.ImportUser(w.t.Context(), u, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
}

// TestAFailureCountsIfTheClientClosesTheConnection closes it between the hashing and the
// answer, which waits for the slowest scheme.
//
// R99.
func TestAFailureCountsIfTheClientClosesTheConnection(t *testing.T) {
	w := newWorld(t).withAlice()
	w.imported("cheap", "20", cheapHash)
	w.postJSON("/api/token/", credentials("unknown", "wrong")) // now all schemes are measured
	for range limit.AccountFailures {
		ctx, hangUp := context.WithCancel(t.Context())
		// A login reads the store twice, for the account and for the password. After
		// that, only the wait for the answer uses the context.
		last := w.counted.views.Load() + 2
		w.counted.viewed = func(n int64) {
			if n == last {
				hangUp()
			}
		}
		r := httptest.NewRequestWithContext(ctx, "POST", "/api/token/", strings.NewReader(`{"username":"cheap","password":"wrong"}`))
		r.Header.Set("Content-Type", "application/json")
		w.server.Public().ServeHTTP(discard{http.Header{}}, r)
		if w.counted.viewed = nil; ctx.Err() == nil {
			t.Fatal("the client did not close the connection")
		}
	}
	w.http = w.from("192.0.2.1") // the address of httptest's requests
	if a := w.postJSON("/api/token/", credentials("cheap", "wrong")); a.status != 429 {
		t.Errorf("after ten failures with closed connections: %d %s", a.status, a.body)
	}
}

// TestAClosedConnectionIsNoWarning: if the client does not wait for the answer, the rest of
// the request fails, which is not a problem of the operator.
func TestAClosedConnectionIsNoWarning(t *testing.T) {
	w := newWorld(t).withAlice()
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	r, err := http.NewRequestWithContext(ctx, "POST", "/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.server.public.writeError(discard{http.Header{}}, r, fmt.Errorf("commit: %w", context.Canceled))
	if log := w.log.String(); !strings.Contains(log, `"level":"DEBUG","msg":"request failed"`) {
		t.Errorf("the log is %s", log)
	}
	w.server.public.writeError(discard{http.Header{}}, r.WithContext(t.Context()), context.DeadlineExceeded)
	if log := w.log.String(); !strings.Contains(log, `"level":"WARN","msg":"request failed"`) {
		t.Errorf("time that ran out: %s", log)
	}
}

// discard is an answer that is not read.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// TestAFullHashingQueueAnswers429 sends logins from so many addresses that no limit of an
// address applies. Requests that find the queue full get 429. Those that wait then hang up, because
// hashing for all of them would take long, and the queue has room again.
func TestAFullHashingQueueAnswers429(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		ctx, hangUp := context.WithCancel(t.Context())
		defer hangUp()
		const requests, queue = 500, 256
		var sent, refused, early atomic.Int64
		var all sync.WaitGroup
		for n := range requests {
			all.Go(func() {
				sent.Add(1)
				body := fmt.Sprintf(`{"username":"user%d","password":"wrong"}`, n)
				r := httptest.NewRequestWithContext(ctx, "POST", "/api/token/", strings.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				r.RemoteAddr = fmt.Sprintf("198.18.%d.%d:40000", n/200, n%200)
				a := httptest.NewRecorder()
				w.server.Public().ServeHTTP(a, r)
				if a.Code != 429 {
					return
				}
				if refused.Add(1) == 1 && sent.Load() <= queue {
					early.Add(1)
				}
				if a.Header().Get("Retry-After") == "" || !strings.Contains(a.Body.String(), "Request was throttled.") {
					t.Errorf("%v %s", a.Header(), a.Body)
				}
				hangUp()
			})
		}
		all.Wait()
		if refused.Load() == 0 || early.Load() != 0 {
			t.Errorf("%d of %d requests were refused, %d of them before the queue was full", refused.Load(), requests, early.Load())
		}
		w.obtain()
		w.pairOf(w.postJSON("/api/token/", credentials("alice", alicesPassword)))
	})
}

func trustsLoopback(c *Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

// TestAPageOfAnotherOriginCannotUseUpItsVisitorsFailures sends forms, for which browsers send no
// preflight request.
func TestAPageOfAnotherOriginCannotUseUpItsVisitorsFailures(t *testing.T) {
	w := newWorld(t).withAlice()
	form := "username=alice&password=wrong"
	for n, headers := range [][]string{
		{"Origin: https://evil.example"}, {"Origin: null"}, {"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"},
		{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"},
	} {
		for range limit.AccountFailures {
			a := w.postForm("/api/token/", form, headers...)
			is(t, fmt.Sprint(n), a, 403, `{"detail":"pages of this origin may not use this path"}`)
		}
	}
	for _, path := range []string{"refresh/", "verify/", "blacklist/"} {
		if a := w.postForm("/api/token/"+path, "token=x&refresh=x", "Origin: https://evil.example"); a.status != 403 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	for _, headers := range [][]string{
		nil, {"Origin: " + appOrigin, "Sec-Fetch-Site: cross-site"}, {"Origin: " + testIssuer, "Sec-Fetch-Site: same-origin"}, {"Sec-Fetch-Site: none"},
	} {
		w.pairOf(w.postJSON("/api/token/", credentials("alice", alicesPassword), headers...))
	}
}

func TestTheProblemWithABodyIsNamed(t *testing.T) {
	w := newWorld(t).withAlice()
	is(t, "two types", w.postJSON("/api/token/", "{}", jsonHeader), 415, `{"detail":"the request has more than one Content-Type"}`)
	is(t, "gzip", w.postJSON("/api/token/", "{}", "Content-Encoding: gzip"), 415, `{"detail":"the body must have no Content-Encoding"}`)
	if a := w.postJSON("/session/logout", `{"all":true}`); !strings.Contains(a.body, "this path takes none") {
		t.Errorf("%s", a.body)
	}
}

func TestADryRunOfAnImportWritesNothing(t *testing.T) {
	w := newWorld(t).withAlice()
	before := w.counted.updates.Load()
	a := w.askAdmin("POST", "/admin/v1/users/import", `{"dry_run":true,"users":[{"user_id":"7","username":"alice"},{"user_id":"7","username":"bob"},{"user_id":"8","username":"alice"},{"user_id":"9","username":"carol"},{"user_id":"09","username":"dave"}]}`)
	var codes []string
	for _, r := range a.json(t)["results"].([]any) {
		codes = append(codes, r.(map[string]any)["error"].(string))
	}
	if got := strings.Join(codes, " "); got != "already_exists conflict conflict  invalid_request" {
		t.Errorf("got %s", got)
	}
	if n := w.counted.updates.Load() - before; n != 0 {
		t.Errorf("%d writes", n)
	}
}
