package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

const aggregated = "refused requests without a line of their own"

// A flood sends requests of one kind, all of which are refused.
type flood struct {
	what    string
	status  int
	method  string // "" means POST
	path    string
	body    string
	headers []string
	spoil   func(w *world) // before the requests
}

var floods = []flood{
	{what: "wrong client secrets", status: 401, path: "/token", body: "grant_type=client_credentials", headers: []string{formHeader, basic("billing", "wrong")}},
	{what: "unknown clients", status: 401, path: "/token", body: "grant_type=client_credentials&client_id=x&client_secret=y", headers: []string{formHeader}},
	{what: "malformed forms", status: 400, path: "/token", body: "a=%zz", headers: []string{formHeader}},
	{what: "no media type", status: 400, path: "/token", body: "grant_type=x"},
	{what: "unknown grants", status: 400, path: "/token", body: "grant_type=x&client_id=billing", headers: []string{formHeader}},
	{what: "revocations with a wrong secret", status: 401, path: "/revoke", body: "token=x", headers: []string{formHeader, basic("billing", "wrong")}},
	{what: "introspections without a client", status: 401, path: "/introspect", body: "token=x", headers: []string{formHeader}},
	{what: "forged refresh tokens", status: 401, path: "/api/token/refresh/", body: `{"refresh":"kmr_x"}`, headers: []string{jsonHeader}},
	{what: "forged access tokens", status: 401, path: "/api/token/verify/", body: `{"token":"a.b.c"}`, headers: []string{jsonHeader}},
	{what: "missing fields", status: 400, path: "/api/token/", body: `{}`, headers: []string{jsonHeader}},
	{what: "another media type", status: 415, path: "/session/login", body: `x`, headers: []string{"Content-Type: text/plain"}},
	{what: "refreshes without a cookie", status: 401, path: "/session/refresh"},
	{what: "pages of other origins", status: 403, path: "/session/login", body: `{}`, headers: []string{jsonHeader, "Origin: https://evil.example"}},
	{what: "pages of other sites", status: 403, path: "/api/token/", body: `{}`, headers: []string{jsonHeader, "Sec-Fetch-Site: cross-site"}},
	{what: "repeated headers", status: 400, path: "/session/login", body: `{}`, headers: []string{jsonHeader, "Sec-Fetch-Site: none", "Sec-Fetch-Site: none"}},
	{what: "preflights of unlisted origins", status: 403, method: "OPTIONS", path: "/token", headers: []string{"Origin: https://evil.example", "Access-Control-Request-Method: POST"}},
	{what: "large bodies", status: 413, path: "/token", body: strings.Repeat("x", maxFormBytes+1), headers: []string{formHeader}},
	{what: "another host", status: 421, path: "/token", headers: []string{formHeader, "Host: evil.example"}, spoil: func(w *world) { w.server.cfg.TrialHosts = []string{"127.0.0.1"} }},
	{what: "guesses at a user that are drawn", status: 429, path: "/api/token/", body: `{"username":"alice","password":"wrong"}`, headers: []string{jsonHeader}, spoil: func(w *world) { w.noLooks(w.countKey("7")) }},
	{what: "guesses at a name that are drawn", status: 429, path: "/session/login", body: `{"username":"carol","password":"wrong"}`, headers: []string{jsonHeader}, spoil: func(w *world) { w.noLooks("?carol") }},
	{what: "a store that has failed", status: 503, path: "/token", body: "grant_type=client_credentials", headers: []string{formHeader, basic("billing", "x")}, spoil: func(w *world) { w.store.Close() }},
}

// noLooks uses up the look at an account, so that the next guesses are refused at once.
func (w *world) noLooks(account string) {
	w.t.Helper()
	w.guess(account)
	a, err := w.server.passwords.Enter(w.t.Context(), account, netip.MustParseAddr("203.0.113.200"))
	if err != nil {
		w.t.Fatal(err)
	}
	a.Failed()
}

// send sends one request of the flood from an address of its own.
func (f *flood) send(w *world, n int) int {
	w.t.Helper()
	method := f.method
	if method == "" {
		method = "POST"
	}
	r := httptest.NewRequestWithContext(w.t.Context(), method, f.path, strings.NewReader(f.body))
	r.Host, r.RemoteAddr = "127.0.0.1", fmt.Sprintf("198.51.%d.%d:1", n>>8, n&255)
	for _, h := range f.headers {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Add(name, value); name == "Host" {
			r.Host = value
		}
	}
	a := httptest.NewRecorder()
	w.server.Public().ServeHTTP(a, r)
	return a.Code
}

// countLines returns the number of lines above level DEBUG, without the aggregated ones, and of those.
func (w *world) countLines() (lines, reports, leftOut int) {
	w.t.Helper()
	for line := range strings.Lines(w.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			w.t.Fatalf("a line that is not JSON: %q", line)
		}
		switch {
		case m["msg"] == aggregated:
			reports++
			for _, v := range m {
				if n, ok := v.(float64); ok {
					leftOut += int(n)
				}
			}
		case m["level"] != "DEBUG":
			lines++
		}
	}
	return lines, reports, leftOut
}

// TestAFloodOfAnyRefusalIsOneLineAMinute from many addresses: at most 100 requests have a line of their own, and
// one line counts all others. In a bubble no time passes, so no further lines are allowed.
//
// R104.
func TestAFloodOfAnyRefusalIsOneLineAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		for _, f := range floods {
			w.server.cfg.TrialHosts = nil
			if f.spoil != nil {
				f.spoil(w)
			}
			w.logged()
			w.server.lines = limit.NewLog(w.server.cfg.Log)
			w.server.public.lines = w.server.lines
			const requests = 3 * limit.Lines
			for n := range requests {
				if status := f.send(w, n); status != f.status {
					t.Fatalf("%s: %d, want %d", f.what, status, f.status)
				}
			}
			synctest.Wait()
			if lines, reports, _ := w.countLines(); lines > limit.Lines || reports != 0 {
				t.Errorf("%s: %d lines", f.what, lines)
			}
			w.server.lines.Report()
			if lines, reports, leftOut := w.countLines(); reports != 1 || lines+leftOut != requests {
				t.Errorf("%s: %d lines and %d counted in %d lines, want %d", f.what, lines, leftOut, reports, requests)
			}
		}
	})
}

// TestFloodsOfAllKindsTogetherAreOneLineAMinute for as long as they last.
//
// R104.
func TestFloodsOfAllKindsTogetherAreOneLineAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.noLooks(w.countKey("7"))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.server.Run(ctx)
		w.logged()
		const minutes = 2
		sent := 0
		for n := range minutes * 60 {
			for _, f := range floods[:len(floods)-1] { // the last one ends the store
				if f.status != http.StatusMisdirectedRequest && f.status != http.StatusTooManyRequests {
					f.send(w, n)
					sent++
				}
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		lines, reports, leftOut := w.countLines()
		if most := 2 * (limit.Lines + int(minutes*time.Minute/limit.LineEvery)); lines > most {
			t.Errorf("%d lines for %d requests, want at most %d", lines, sent, most)
		}
		if reports != minutes || lines+leftOut != sent {
			t.Errorf("%d lines and %d counted in %d lines, want %d in %d", lines, leftOut, reports, sent, minutes)
		}
	})
}

// TestAFullQueueDoesNotHideAFault: a flood causes warnings that a queue is full. They have a bound of their
// own, so that the line of a fault is not left out.
//
// R104.
func TestAFullQueueDoesNotHideAFault(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.logged()
		for n := range 3 * limit.Lines {
			r := request(t, "/api/token/", "")
			r.RemoteAddr = fmt.Sprintf("198.51.%d.%d:1", n>>8, n&255)
			w.server.public.writeError(httptest.NewRecorder(), r,
				&refusal.Reason{Code: "busy", Login: true, User: "7", Err: &clientError{"web", &issuer.BusyError{}}})
		}
		synctest.Wait()
		w.logged()
		r := request(t, "/token", "")
		r.RemoteAddr = "192.0.2.1:1"
		w.server.public.writeError(httptest.NewRecorder(), r, errors.New("the disk is broken"))
		if log := w.log.String(); strings.Count(log, "the disk is broken") != 1 {
			t.Errorf("the fault is not in the log: %s", log)
		}
	})
}
