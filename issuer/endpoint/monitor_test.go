package endpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/keyset"
	"keymill/issuer/endpoint/metrics"
	"keymill/storage"
)

// withMetrics makes a world counts, with all that a scrape reads.
func withMetrics(c *Config) {
	c.Metrics = metrics.New("test")
	zero := func() int64 { return 0 }
	c.Metrics.Watch(metrics.Sources{
		Algorithms: c.Keys.Algorithms(), Keys: func() []metrics.Key { return nil },
		Frozen: func() bool { return c.Keys.Status().Frozen }, Ready: func() bool { return false },
		StoreBytes: c.StoreBytes, StoreFreeBytes: zero, DiskFreeBytes: zero, LoginQueue: c.Issuer.LoginQueue, Verifiers: func() (int, int) { return 3, 2 },
		WebhookWaiting: zero, WebhookOldest: func() time.Duration { return 0 }, LogLinesDropped: zero,
		NodesLive: func() int { return 1 }, ClockOffset: func() (time.Duration, bool) { return 0, false }, StoreAway: func() bool { return false },
		RSASigner: func() (string, uint64) { return "go", 0 },
	})
}

// monitored asks the metrics listener.
func (w *world) monitored(method, path string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://127.0.0.1:9420"+path, strings.NewReader("x=1"))
	if err != nil {
		w.t.Fatal(err)
	}
	return do(w.t, &http.Client{Transport: directTransport{w.server.Monitor(), "127.0.0.1:40000"}}, r)
}

var sample = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? (\S+)$`)

// scrape returns series → value. A label with a quote, a line break or a brace in its value would not
// match sample, so every line has to.
func (w *world) scrape() map[string]string {
	w.t.Helper()
	a := w.monitored("GET", "/metrics")
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain; version=0.0.4") {
		w.t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	series := map[string]string{}
	for line := range strings.Lines(a.body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := sample.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			w.t.Errorf("line %q", line)
			continue
		}
		series[m[1]+"{"+m[2]+"}"] = m[3]
	}
	return series
}

// everything uses each endpoint, well and wrongly.
func (w *world) everything() {
	w.send("GET", keyset.Path, "")
	w.send("GET", keyset.Path, "", "If-None-Match: *")
	w.send("POST", keyset.Path, "")
	for _, path := range []string{"/.well-known/openid-configuration", "/healthz", "/readyz", "/nothing"} {
		w.send("GET", path, "")
	}
	w.token(w.post(w.good()))
	w.post(w.good("audience=unknown"))
	w.post("grant_type=client_credentials&client_id=billing&client_secret=wrong")
	p := w.obtain()
	w.postJSON("/api/token/", credentials("alice", "wrong"))
	next := w.pairOf(w.postJSON("/api/token/refresh/", map[string]string{"refresh": p.Refresh}))
	w.postJSON("/api/token/verify/", map[string]string{"token": next.Access})
	w.ask("/revoke", "x", "client_id=web")
	w.ask("/introspect", "x", basic("billing", w.secret))
	w.postJSON("/api/token/blacklist/", map[string]string{"refresh": next.Refresh})
	cookie := w.cookieOf(w.loginByCookie())
	w.send("POST", "/session/refresh", "", "Cookie: "+cookie)
	w.send("POST", "/session/logout", "", "Cookie: "+cookie)
}

// TestThePageOfMetricsNamesWhatIsExported compares the table of docs/metrics.md with a scrape after every
// endpoint was used: names, types and labels.
func TestThePageOfMetricsNamesWhatIsExported(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\w+) \\| ([^|]*) ?\\|").FindAllStringSubmatch(string(page), -1) {
		labels := strings.Split(strings.ReplaceAll(strings.Trim(m[3], " "), "`", ""), ", ")
		slices.Sort(labels)
		documented[m[1]] = m[2] + " " + strings.Join(labels, " ")
	}
	w := newWorldAt(t, testIssuer, withMetrics).withAlice()
	w.everything()
	counting, cancel := context.WithCancel(t.Context())
	counted := make(chan struct{})
	go w.server.cfg.Metrics.CountSessions(counting, func(context.Context, string) (int, string, error) { close(counted); cancel(); return 3, "", nil })
	<-counted
	<-counting.Done()
	types := map[string]string{}
	exported := map[string]string{}
	for exported["keymill_sessions"] == "" { // the count is stored after its last page
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+) (\w+)$`).FindAllStringSubmatch(w.monitored("GET", "/metrics").body, -1) {
			types[m[1]] = m[2]
		}
		maps.Copy(exported, labelsOf(w.scrape(), types))
	}
	for name, want := range exported {
		if documented[name] != want {
			t.Errorf("docs/metrics.md says %q of %s, and it is %q", documented[name], name, want)
		}
	}
	for name := range documented {
		if exported[name] == "" {
			t.Errorf("docs/metrics.md lists %s, which is not exported", name)
		}
	}
	if len(exported) < 30 {
		t.Errorf("%d metrics are exported: the test reads too few", len(exported))
	}
}

// labelsOf returns name → type and labels, sorted.
func labelsOf(series map[string]string, types map[string]string) map[string]string {
	found := map[string]string{}
	for s := range series {
		name, labels, _ := strings.Cut(strings.TrimSuffix(s, "}"), "{")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && types[base] != "" {
				name = base
			}
		}
		var names []string
		for _, m := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(labels, -1) {
			if m[1] != "le" {
				names = append(names, m[1])
			}
		}
		slices.Sort(names)
		if text := types[name] + " " + strings.Join(names, " "); len(text) > len(found[name]) {
			found[name] = text
		}
	}
	return found
}

// TestNoRequestAddsASeries: whatever a client sends, the series are those of the start, so no label has text of
// a request. They are also there before the first event.
//
// R104.
func TestNoRequestAddsASeries(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics).withAlice()
	before := slices.Sorted(maps.Keys(w.scrape()))
	evil := "evil\"} 1\nkeymill_ready{x=\"é\x00"
	form := url.QueryEscape(evil)
	w.everything()
	if _, err := w.issuer.AddUser(t.Context(), api.NewUser{ID: "9", Name: `evil"}1{x="`, Password: alicesPassword}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	w.pairOf(w.postJSON("/api/token/", credentials(`evil"}1{x="`, alicesPassword)))
	for _, name := range []string{evil, `evil"}1{x="`, strings.Repeat("evil", 10000)} {
		w.postJSON("/api/token/", credentials(name, "evil"))
		w.postJSON("/session/login", credentials(name, "evil"))
	}
	w.post("grant_type=" + form)
	w.post("grant_type=client_credentials&client_id=" + form + "&client_secret=" + form)
	w.post(w.good("scope=" + form))
	w.post(w.good("audience=" + form))
	w.post(w.good("resource=evil"))
	w.rotate(evil)
	w.ask("/revoke", evil, "client_id="+form)
	w.send("GET", "/evil/"+url.PathEscape(evil), "")
	w.send("GET", "/token/"+url.PathEscape(evil), "")
	w.send("EVIL", "/token", "")
	w.send("GET", keyset.Path+"?"+form, "", "Host: evil.example.com", "X-Request-Id: evil", "If-None-Match: evil", "Origin: https://evil.example.com")
	w.send("OPTIONS", "/token", "", "Origin: https://evil.example.com", "Access-Control-Request-Method: EVIL")
	for _, raw := range []string{"GET /evil\"{} HTTP/1.1\r\nHost: a\"b{}\r\n\r\n", "E\"VIL /evil HTTP/1.1\r\nHost: evil\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil\r\nX-Evil: a\x00b\r\n\r\n"} {
		w.sendRaw(raw)
	}
	after := w.scrape()
	if now := slices.Sorted(maps.Keys(after)); !slices.Equal(before, now) {
		added := slices.DeleteFunc(now, func(s string) bool { return slices.Contains(before, s) })
		t.Errorf("requests added %d series: %q", len(added), added)
	}
	for s := range after {
		if strings.Contains(strings.ToLower(s), "evil") {
			t.Errorf("series %s", s)
		}
	}
	if after[`keymill_refusals_total{endpoint="unknown",error="other"}`] == "0" {
		t.Error("the unknown paths are not counted")
	}
}

func (w *world) sendRaw(text string) {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, text)
	conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, conn)
}

// counts fails unless the series rose by those numbers since before.
func (w *world) counts(before map[string]string, want map[string]int) {
	w.t.Helper()
	after := w.scrape()
	for s, n := range want {
		var from, to int
		fmt.Sscan(before[s], &from)
		fmt.Sscan(after[s], &to)
		if after[s] == "" || to-from != n {
			w.t.Errorf("%s went from %q to %q, want %d more", s, before[s], after[s], n)
		}
	}
}

// TestTokensAndRefusalsAreCountedWhereTheyHappen, at /token and at both login endpoints.
func TestTokensAndRefusalsAreCountedWhereTheyHappen(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics).withAlice()
	before := w.scrape()
	w.everything()
	w.counts(before, map[string]int{
		`keymill_tokens_issued_total{alg="EdDSA",grant="client_credentials"}`:               1,
		`keymill_tokens_issued_total{alg="EdDSA",grant="simplejwt"}`:                        1,
		`keymill_tokens_issued_total{alg="EdDSA",grant="browser"}`:                          1,
		`keymill_tokens_issued_total{alg="EdDSA",grant="refresh_token"}`:                    2,
		`keymill_tokens_issued_total{alg="RS256",grant="refresh_token"}`:                    0,
		`keymill_refresh_total{outcome="rotated"}`:                                          2,
		`keymill_refusals_total{endpoint="/token",error="invalid_target"}`:                  1,
		`keymill_refusals_total{endpoint="/token",error="invalid_client"}`:                  1,
		`keymill_refusals_total{endpoint="/api/token/",error="invalid_grant"}`:              1,
		`keymill_refusals_total{endpoint="/.well-known/jwks.json",error="invalid_request"}`: 1,
		`keymill_refusals_total{endpoint="unknown",error="other"}`:                          1,
		`keymill_jwks_requests_total{code="200"}`:                                           1, `keymill_jwks_requests_total{code="304"}`: 1, `keymill_jwks_requests_total{code="405"}`: 1,
		`keymill_request_seconds_count{code="2xx",endpoint="/token"}`: 1, `keymill_request_seconds_count{code="4xx",endpoint="/token"}`: 2,
		`keymill_request_seconds_count{code="2xx",endpoint="/session/logout"}`: 1,
		`keymill_request_seconds_count{code="4xx",endpoint="unknown"}`:         1,
	})
}

// TestEveryOutcomeOfARefreshIsCounted, wherever the token is presented. A fault is no outcome.
func TestEveryOutcomeOfARefreshIsCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		present := map[string]func(token string){
			"/token":              func(token string) { w.rotate(token) },
			"/api/token/refresh/": func(token string) { w.postJSON("/api/token/refresh/", map[string]string{"refresh": token}) },
			"/session/refresh":    func(token string) { w.send("POST", "/session/refresh", "", "Cookie: "+w.server.cookie+"="+token) },
		}
		for where, refresh := range present {
			outcome := func(what string, f func()) {
				t.Helper()
				time.Sleep(time.Second) // for the bound of scrapes
				before, want := w.scrape(), map[string]int{}
				for o := metrics.Rotated; o <= metrics.Refused; o++ {
					want[`keymill_refresh_total{outcome="`+o.String()+`"}`] = 0
				}
				if what != "" {
					want[`keymill_refresh_total{outcome="`+what+`"}`] = 1
				}
				f()
				t.Log(where, what)
				w.counts(before, want)
			}
			first := string(w.familyAt("web").Refresh)
			outcome("rotated", func() { refresh(first) })
			outcome("grace", func() { refresh(first) })
			outcome("refused", func() { refresh("kmr_forged") })
			w.failUpdates(true)
			outcome("", func() { refresh(first) })
			w.failUpdates(false)
			time.Sleep(time.Minute) // longer than the grace
			outcome("late_retry", func() { refresh(first) })
			outcome("refused", func() { refresh(first) }) // the session has ended

			first = string(w.familyAt("web").Refresh)
			second := w.pairOf(w.postJSON("/api/token/refresh/", map[string]string{"refresh": first})).Refresh
			w.postJSON("/api/token/refresh/", map[string]string{"refresh": second})
			outcome("replay", func() { refresh(first) })

			first = string(w.familyAt("web").Refresh)
			old := w.stored(func(key string) bool { return strings.HasPrefix(key, "family/") })
			second = w.pairOf(w.postJSON("/api/token/refresh/", map[string]string{"refresh": first})).Refresh
			w.putBelow(old)
			outcome("rolled_back", func() { refresh(second) })
		}
	}, withMetrics)
}

// TestAScrapeReadsNoRecord, so it is answered while the store hangs and after it has failed. /readyz on the
// same listener says what it says on the public one.
func TestAScrapeReadsNoRecord(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics)
	views, updates := w.counted.views.Load(), w.counted.updates.Load()
	w.scrape()
	if v, u := w.counted.views.Load()-views, w.counted.updates.Load()-updates; v != 0 || u != 0 {
		t.Errorf("a scrape began %d views and %d updates", v, u)
	}
	hangs, release := make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- w.file.Update(t.Context(), func(storage.Tx) error { close(hangs); <-release; return nil })
	}()
	<-hangs
	w.scrape()
	close(release)
	<-ended
	w.storeFail = errors.New("the disk")
	w.scrape()
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 503} {
		if a, public := w.monitored("GET", path), w.send("GET", path, ""); a.status != status || a.status != public.status || a.body != public.body {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

// TestTheMetricsListenerServesNothingElse, and the other listeners do not serve it.
func TestTheMetricsListenerServesNothingElse(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics)
	for _, path := range []string{"/", "/token", keyset.Path, "/metrics/", "/metricsx", "//metrics", "/admin/v1/status", "/debug/pprof/", "/healthz/"} {
		if a := w.monitored("GET", path); a.status != 404 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "EVIL"} {
			a := w.monitored(method, path)
			if a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d %v", method, path, a.status, a.header)
			}
		}
	}
	if a := w.send("GET", "/metrics", ""); a.status != 404 {
		t.Errorf("the public listener answers %d", a.status)
	}
	if a := w.askAdmin("GET", "/metrics", ""); a.status != 404 {
		t.Errorf("the admin socket answers %d", a.status)
	}
	rebound := newWorldAt(t, testIssuer, withMetrics, func(c *Config) { c.TrialHosts = []string{"127.0.0.1:8420"} })
	if a := rebound.monitored("GET", "/metrics"); a.status != 421 {
		t.Errorf("a trial server answers another host with %d", a.status)
	}
	if a := newWorld(t).monitored("GET", "/metrics"); a.status != 404 {
		t.Errorf("without metrics: %d", a.status)
	}
}

// TestTooManyScrapesGet429, and the server does not build the answer.
func TestTooManyScrapesGet429(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		statuses := map[int]int{}
		for range 100 {
			a := w.monitored("GET", "/metrics")
			statuses[a.status]++
		}
		if !maps.Equal(statuses, map[int]int{200: 20, 429: 80}) {
			t.Errorf("%v", statuses)
		}
	}, withMetrics)
}

// TestReadyIsWhatTheLastCheckFound, and not ready once no check has ended for a while.
func TestReadyIsWhatTheLastCheckFound(t *testing.T) {
	var failed atomic.Bool
	inBubble(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.server.Run(ctx) }()
		is := func(want bool) {
			t.Helper()
			synctest.Wait()
			if got := w.server.Ready(); got != want {
				t.Errorf("ready is %v", got)
			}
		}
		time.Sleep(readyEvery)
		is(true)
		failed.Store(true)
		time.Sleep(readyEvery)
		is(false)
		failed.Store(false)
		time.Sleep(readyEvery)
		is(true)
		cancel()
		<-ended
		time.Sleep(readyFor - 1)
		is(true)
		time.Sleep(time.Nanosecond)
		is(false)
	}, func(c *Config) {
		c.StoreFailed = func() error {
			if failed.Load() {
				return errors.New("the disk")
			}
			return nil
		}
	})
}

// TestAClientThatHangsUpIsNoFault of the server: the alarm of the error ratio must not ring.
func TestAClientThatHangsUpIsNoFault(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics)
	before := w.scrape()
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	r := httptest.NewRequestWithContext(ctx, "POST", "/token", strings.NewReader(w.good()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w.server.Public().ServeHTTP(discard{http.Header{}}, r)
	w.counts(before, map[string]int{
		`keymill_request_seconds_count{code="4xx",endpoint="/token"}`: 1, `keymill_request_seconds_count{code="5xx",endpoint="/token"}`: 0,
		`keymill_refusals_total{endpoint="/token",error="temporarily_unavailable"}`: 0,
	})
}

// TestCountingChangesNoAnswer: a body that is too large still ends the connection, and a panic is still a 500.
func TestCountingChangesNoAnswer(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics)
	w.server.public.handle("GET", "/panic", func(http.ResponseWriter, *http.Request) error { panic("at the disco") })
	before := w.scrape()
	if a := w.postForm("/token", strings.Repeat("a", maxFormBytes+1)); a.status != 413 || a.header.Get("Connection") != "close" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a := w.send("GET", "/panic", ""); a.status != 500 || !bytes.Contains([]byte(a.body), []byte("server_error")) {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.counts(before, map[string]int{
		`keymill_request_seconds_count{code="4xx",endpoint="/token"}`:  1,
		`keymill_request_seconds_count{code="5xx",endpoint="unknown"}`: 1, `keymill_refusals_total{endpoint="unknown",error="server_error"}`: 1,
	})
}
