package jwks

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// logged returns the lines of a log without their times, and the levels alone.
func logged(log *bytes.Buffer) (lines, levels []string) {
	for line := range strings.Lines(log.String()) {
		lines = append(lines, line)
		levels = append(levels, regexp.MustCompile(`level=(\w+)`).FindStringSubmatch(line)[1])
	}
	return lines, levels
}

// TestAnOutageIsLoggedOncePerState: any number of refused requests is one line, and so is the end of the
// outage. A Remote that works says nothing.
func TestAnOutageIsLoggedOncePerState(t *testing.T) {
	up := func(t *testing.T, o *origin) {
		o.publish(t, time.Minute, edKey("ed"))
		pass(20 * time.Minute)
	}
	down := func(_ *testing.T, o *origin) {
		o.become(nil, false)
		pass(20 * time.Minute)
	}
	hangs := func(_ *testing.T, o *origin) {
		o.become(nil, true)
		pass(20 * time.Minute)
	}
	short := func(_ *testing.T, o *origin) {
		o.become(http.NotFoundHandler(), false)
		pass(3 * time.Minute)
	}
	type phases []func(*testing.T, *origin)
	for _, tt := range []struct {
		name   string
		phases phases
		stale  time.Duration
		levels string
	}{
		{"no outage", phases{up}, 5 * time.Minute, ""},
		{"down from the start", phases{down}, 5 * time.Minute, "ERROR"},
		{"down from the start, and back", phases{down, up}, 5 * time.Minute, "ERROR INFO"},
		{"unanswered from the start", phases{hangs}, 5 * time.Minute, "ERROR"},
		{"a short outage", phases{up, short, up}, 5 * time.Minute, "WARN INFO"},
		{"a long outage", phases{up, short, down, hangs, up}, 5 * time.Minute, "WARN ERROR INFO"},
		{"two outages without a stale set", phases{up, down, up, down}, -1, "WARN ERROR INFO WARN ERROR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				var o origin
				if tt.levels == "" || tt.levels[0] == 'W' {
					o.publish(t, time.Minute, edKey("ed"))
				}
				r := follows(t, &o, RemoteConfig{MaxStale: tt.stale, Log: slog.New(slog.NewTextHandler(&log, nil))})
				stop := make(chan struct{})
				go keepAsking(t, r, stop)
				for _, phase := range tt.phases {
					phase(t, &o)
				}
				close(stop)
				r.Close()
				lines, levels := logged(&log)
				if strings.Join(levels, " ") != tt.levels {
					t.Errorf("want levels %q, got:\n%s", tt.levels, log.String())
				}
				for _, line := range lines {
					if !strings.Contains(line, "url=https://id.example/keys") || !strings.Contains(line, "INFO") && !strings.Contains(line, "error=") {
						t.Errorf("not the address and the reason: %s", line)
					}
				}
			})
		})
	}
}

// keepAsking sends valid and invalid requests through a Guard, until stop is closed.
func keepAsking(t *testing.T, r *Remote, stop chan struct{}) {
	h := Guard{Verifier: newVerifier(t, r, 0)}.Require(http.NotFoundHandler())
	tokens := []string{tokenOf("ed"), tokenOf("unknown")}
	for tick := time.Tick(3 * time.Second); ; {
		select {
		case <-stop:
			return
		case <-tick:
		}
		for _, token := range tokens {
			req := httptest.NewRequest("GET", "/", nil)
			req.Header.Set("Authorization", "Bearer "+token)
			h.ServeHTTP(httptest.NewRecorder(), req)
		}
	}
}

// TestAnIssuerThatFailsNowAndThenDoesNotFillTheLog answers every second request for half an hour.
func TestAnIssuerThatFailsNowAndThenDoesNotFillTheLog(t *testing.T) {
	for name, stale := range map[string]time.Duration{"stale sets are used": 0, "stale sets are not used": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				var o origin
				set, n := NewHandler(time.Second), 0
				set.Publish(mustSet(t, edKey("ed")))
				o.become(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if n++; n%2 == 0 {
						http.Error(w, "", http.StatusBadGateway)
						return
					}
					set.ServeHTTP(w, r)
				}), false)
				r := follows(t, &o, RemoteConfig{MaxStale: stale, Log: slog.New(slog.NewTextHandler(&log, nil))})
				stop := make(chan struct{})
				go keepAsking(t, r, stop)
				pass(30 * time.Minute)
				close(stop)
				r.Close()
				lines, levels := logged(&log)
				bad := len(slices.DeleteFunc(levels, func(level string) bool { return level == "INFO" }))
				if o.count() < 300 || bad < 15 || bad > 2*30 || len(lines) > 2*bad {
					t.Errorf("%d attempts, %d lines, %d of them bad", o.count(), len(lines), bad)
				}
			})
		})
	}
}

// TestWithoutALoggerTheDefaultOneIsUsed, the one that is the default when there is something to say.
func TestWithoutALoggerTheDefaultOneIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		before := slog.Default()
		slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil))) // before NewRemote, which starts to fetch
		defer slog.SetDefault(before)
		var o origin
		r, err := NewRemote(RemoteConfig{Issuer: "https://id.example", Client: &http.Client{Transport: &o}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		pass(time.Minute)
		if lines, _ := logged(&log); len(lines) != 1 || !strings.Contains(lines[0], "issuer=https://id.example ") {
			t.Errorf("the default logger got %q", lines)
		}
	})
}
