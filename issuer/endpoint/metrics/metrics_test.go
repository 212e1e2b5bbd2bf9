package metrics

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newMetrics() *Metrics {
	m := New("test")
	m.SetRoutes(Routes{
		Paths: []string{"/token", "/keys", "/token"}, Cached: []string{"/keys"}, KeySet: "/keys",
		Grants: []string{"client_credentials"}, Algorithms: []string{"EdDSA"},
	})
	return m
}

// scrape returns series → value, as text.
func scrape(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	text, err := m.gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && line[0] != '#' {
			series[name+"}"] = value
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && line[0] != '#' {
			series[name] = value
		}
	}
	return series
}

func has(t *testing.T, m *Metrics, want map[string]string) {
	t.Helper()
	series := scrape(t, m)
	for name, value := range want {
		if series[name] != value {
			t.Errorf("%s is %q, want %s", name, series[name], value)
		}
	}
}

func TestEveryAnswerIsCountedOnce(t *testing.T) {
	m := newMetrics()
	answer := func(path string, f func(w http.ResponseWriter)) {
		q := m.Begin(httptest.NewRecorder(), path)
		defer q.End()
		f(q)
	}
	answer("/token", func(w http.ResponseWriter) { w.Write([]byte("ok")) })
	answer("/token", func(w http.ResponseWriter) { w.WriteHeader(201); w.WriteHeader(500) })
	answer("/token", func(w http.ResponseWriter) { Failed(w, "invalid_credentials", false); w.WriteHeader(401) })
	answer("/token", func(w http.ResponseWriter) { Failed(w, "a code\n\" of ours", false); w.WriteHeader(503) })
	answer("/token", func(w http.ResponseWriter) { Failed(w, "temporarily_unavailable", true); w.WriteHeader(503) })
	answer("/token", func(w http.ResponseWriter) { w.WriteHeader(304) }) // has no series and must not end the server
	answer("/x\n\"", func(w http.ResponseWriter) { Failed(w, "not_found", false); w.WriteHeader(404) })
	for _, status := range []int{200, 304, 304, 405, 421, 600} {
		answer("/keys", func(w http.ResponseWriter) { w.WriteHeader(status) })
	}
	Failed(httptest.NewRecorder(), "invalid_request", false) // of another listener: not counted
	has(t, m, map[string]string{
		`keymill_request_seconds_count{code="2xx",endpoint="/token"}`:               "2",
		`keymill_request_seconds_count{code="4xx",endpoint="/token"}`:               "2",
		`keymill_request_seconds_count{code="5xx",endpoint="/token"}`:               "1",
		`keymill_request_seconds_count{code="4xx",endpoint="unknown"}`:              "1",
		`keymill_request_seconds_count{code="3xx",endpoint="/keys"}`:                "2",
		`keymill_request_seconds_count{code="3xx",endpoint="/token"}`:               "",
		`keymill_refusals_total{endpoint="/token",error="invalid_grant"}`:           "1",
		`keymill_refusals_total{endpoint="/token",error="other"}`:                   "1",
		`keymill_refusals_total{endpoint="/token",error="temporarily_unavailable"}`: "0",
		`keymill_refusals_total{endpoint="unknown",error="other"}`:                  "1",
		`keymill_refusals_total{endpoint="/keys",error="invalid_request"}`:          "0",
		`keymill_jwks_requests_total{code="200"}`:                                   "1", `keymill_jwks_requests_total{code="304"}`: "2",
		`keymill_jwks_requests_total{code="405"}`: "1", `keymill_jwks_requests_total{code="other"}`: "2",
	})
}

func TestTokensAreCountedByTheirTables(t *testing.T) {
	m := newMetrics()
	m.Issued("client_credentials", "EdDSA")
	m.Issued("client_credentials", "none") // is not in the tables
	m.Issued("a\"b", "EdDSA")
	for reason, want := range map[string]Outcome{
		"late_retry": LateRetry, "replay": Replay, "rolled_back": RolledBack, "": Refused, "rotated": Refused, "refused": Refused,
	} {
		if got := OutcomeOf(reason); got != want {
			t.Errorf("the outcome of %q is %v, want %v", reason, got, want)
		}
	}
	m.Refreshed(Replay)
	m.Committed(3*time.Millisecond, 5)
	has(t, m, map[string]string{
		`keymill_tokens_issued_total{alg="EdDSA",grant="client_credentials"}`: "1", `keymill_refresh_total{outcome="replay"}`: "1",
		`keymill_refresh_total{outcome="rotated"}`: "0", `keymill_commit_seconds_count`: "1",
		`keymill_commit_seconds_bucket{le="0.0025"}`: "0", `keymill_commit_seconds_bucket{le="0.005"}`: "1", `keymill_commit_group_size_sum`: "5",
	})
}

// TestAnEventAllocatesNothing, and a request only the writer that remembers its status.
func TestAnEventAllocatesNothing(t *testing.T) {
	m := newMetrics()
	w := httptest.NewRecorder()
	for what, tt := range map[string]struct {
		f    func()
		most float64
	}{
		"a token": {func() { m.Issued("client_credentials", "EdDSA") }, 0}, "a refresh": {func() { m.Refreshed(Rotated) }, 0},
		"a commit":                  {func() { m.Committed(time.Millisecond, 3) }, 0},
		"a request":                 {func() { q := m.Begin(w, "/token"); Failed(q, "invalid_grant", false); q.End() }, 1},
		"a request to another path": {func() { m.Begin(w, "/other").End() }, 1},
	} {
		if n := testing.AllocsPerRun(1000, tt.f); n > tt.most {
			t.Errorf("%s takes %v allocations, at most %v", what, n, tt.most)
		}
	}
}

func TestNoMetricsCountNothing(t *testing.T) {
	var m *Metrics
	m.SetRoutes(Routes{})
	m.Issued("client_credentials", "EdDSA")
	m.Refreshed(Grace)
}

// TestTheKeyThatSignsFirstCounts, and a stage without a key is 0.
func TestTheKeyThatSignsFirstCounts(t *testing.T) {
	m := newMetrics()
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	keys := []Key{{"EdDSA", "active", at(100)}, {"EdDSA", "spare", at(900)}, {"EdDSA", "spare", at(500)}, {"ES256", "spare", at(1)}, {"RS256", "retiring", at(1)}}
	zero := func() int64 { return 0 }
	m.Watch(Sources{
		Algorithms: []string{"EdDSA", "RS256"}, Keys: func() []Key { return keys },
		Frozen: func() bool { return true }, Ready: func() bool { return false }, StoreBytes: zero, StoreFreeBytes: func() int64 { return 4096 }, DiskFreeBytes: zero,
		Node: "node-a", NodesLive: func() int { return 3 }, ClockOffset: func() (time.Duration, bool) { return -90 * time.Second, true }, StoreAway: func() bool { return true },
		RSASigner:  func() (string, uint64) { return "libcrypto", 2 },
		LoginQueue: func() int { return 3 }, Verifiers: func() (int, int) { return 7, 2 }, WebhookWaiting: zero, WebhookOldest: func() time.Duration { return time.Minute }, LogLinesDropped: zero,
	})
	has(t, m, map[string]string{
		`keymill_key_sign_timestamp_seconds{alg="EdDSA",stage="active"}`: "100", `keymill_key_sign_timestamp_seconds{alg="EdDSA",stage="spare"}`: "500",
		`keymill_key_sign_timestamp_seconds{alg="RS256",stage="active"}`: "0", `keymill_key_sign_timestamp_seconds{alg="RS256",stage="spare"}`: "0",
		`keymill_key_sign_timestamp_seconds{alg="ES256",stage="spare"}`: "",
		`keymill_rotation_frozen`: "1", `keymill_ready`: "0", `keymill_store_free_bytes`: "4096", `keymill_login_queue_length`: "3", `keymill_verifiers_pinned`: "7", `keymill_verifiers_behind`: "2", `keymill_webhook_oldest_seconds`: "60",
		`keymill_sessions`:                 "", // no count has ended
		`keymill_node_info{node="node-a"}`: "1", `keymill_nodes_live`: "3", `keymill_clock_offset_seconds`: "-90", `keymill_store_away`: "1",
		`keymill_rsa_libcrypto`: "1", `keymill_rsa_faults_total`: "2",
	})
}

// TestSessionsAreCountedPageByPage, with a rest after each page, and an error leaves the count before.
func TestSessionsAreCountedPageByPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics()
		m.registry.MustRegister(&m.sessions)
		ctx, cancel := context.WithCancel(t.Context())
		pages := map[string]struct {
			live int
			next string
		}{"": {1000, "a"}, "a": {0, "b"}, "b": {7, ""}}
		var fails atomic.Bool
		var asked atomic.Int64 // pages
		ended := make(chan error)
		began := time.Now()
		go func() {
			ended <- m.CountSessions(ctx, func(_ context.Context, after string) (int, string, error) {
				time.Sleep(10 * time.Millisecond) // what a page takes
				asked.Add(1)
				if fails.Load() {
					return 5, "", errors.New("the disk")
				}
				return pages[after].live, pages[after].next, nil
			})
		}()
		time.Sleep(3*10*time.Millisecond + 2*500*time.Millisecond - 1)
		synctest.Wait()
		has(t, m, map[string]string{"keymill_sessions": ""})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		has(t, m, map[string]string{"keymill_sessions": "1007"})
		fails.Store(true)
		time.Sleep(countEvery + time.Second)
		synctest.Wait()
		if n := asked.Load(); n != 4 {
			t.Errorf("%d pages were asked for: a fault must end the count", n)
		}
		if n := m.sessions.newest.Load(); n.live != 1007 || !n.began.Equal(began) {
			t.Errorf("after a fault the count is %+v", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestScrapesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics()
		answered := func() (n int) {
			for m.Serve(httptest.NewRecorder(), nil) == nil {
				n++
			}
			return n
		}
		if n := answered(); n != scrapesAtOnce {
			t.Errorf("%d scrapes at once", n)
		}
		time.Sleep(time.Second)
		if n := answered(); n != scrapesPerSecond {
			t.Errorf("%d scrapes a second later", n)
		}
	})
}
