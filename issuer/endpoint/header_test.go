package endpoint

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/endpoint/keyset"
)

// TestARepeatedHeaderThatDecidesIsRefused: whichever value another program reads, the first or the
// last, the request is refused before the password is checked and before a cookie is used.
//
// R102.
func TestARepeatedHeaderThatDecidesIsRefused(t *testing.T) {
	w := newWorld(t).withAlice()
	page := "https://app.example.org" // on another site than the issuer
	w.list(appOrigin, page)
	cookie := "Cookie: " + w.cookieOf(w.loginByCookie())
	for _, tt := range []struct{ first, second string }{
		{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"},
		{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"},
		{"Sec-Fetch-Site: same-site", "Sec-Fetch-Site: same-site"},
		{"Sec-Fetch-Site: same-origin, cross-site", ""},
		{"Sec-Fetch-Site: same-origin,", ""},
		{"Sec-Fetch-Mode: cors", "Sec-Fetch-Mode: navigate"},
		{"Sec-Fetch-Dest: empty", "Sec-Fetch-Dest: document"},
		{"Sec-Fetch-Storage-Access: none", "Sec-Fetch-Storage-Access: active"},
		{"Origin: " + appOrigin, "Origin: " + page},
		{"Origin: " + appOrigin, "Origin: " + appOrigin},
		{"Authorization: Bearer a", "Authorization: Bearer b"},
	} {
		headers, name := []string{tt.first, cookie}, strings.Split(tt.first, ":")[0]
		if tt.second != "" {
			headers = append(headers, tt.second)
		}
		for _, path := range append(cookiePaths, "/api/token/", "/api/token/refresh/", "/api/token/verify/", "/api/token/blacklist/", "/token", "/revoke", "/introspect") {
			a := w.postJSON(path, credentials("alice", "wrong"), headers...)
			if a.status != 400 || !strings.Contains(a.body, "header "+name+" is given more than once") || a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s, %s and %q: %d %s", path, tt.first, tt.second, a.status, a.body)
			}
		}
		for _, path := range append(cookiePaths, "/token", "/api/token/") {
			if a := w.send("OPTIONS", path, "", append(headers, "Origin: "+appOrigin, "Access-Control-Request-Method: POST")...); a.status != 400 {
				t.Errorf("preflight of %s, %s and %q: %d", path, tt.first, tt.second, a.status)
			}
		}
	}
	a := w.send("OPTIONS", "/token", "", "Origin: "+appOrigin, "Access-Control-Request-Method: GET", "Access-Control-Request-Method: POST")
	refusedToken(t, "two methods", a, 400, "invalid_request")
	if a := w.loginByCookie(); a.status != 200 {
		t.Errorf("the refused requests counted as failures: %d %s", a.status, a.body)
	}
	if n := w.server.passwords.Account(w.countKey("7")).Failures; n > 0 {
		t.Errorf("%d failures", n)
	}
	w.cookieOf(w.send("POST", "/session/refresh", "", cookie)) // the session is as it was
}

// TestARepeatedHeaderOfABodyIsRefused: no value hides behind the first one.
func TestARepeatedHeaderOfABodyIsRefused(t *testing.T) {
	w := newWorld(t).withAlice()
	login := `{"username":"alice","password":"` + alicesPassword + `"}`
	for what, headers := range map[string][]string{
		"two types":           {"Content-Type: application/json", "Content-Type: " + formType},
		"the same type twice": {"Content-Type: application/json", "Content-Type: application/json"},
		"joined types":        {"Content-Type: application/json, " + formType},
		"a hidden coding":     {"Content-Type: application/json", "Content-Encoding: ", "Content-Encoding: gzip"},
		"two codings":         {"Content-Type: application/json", "Content-Encoding: gzip", "Content-Encoding: "},
	} {
		for _, path := range []string{"/session/login", "/api/token/"} {
			if a := w.send("POST", path, login, headers...); a.status != 415 {
				t.Errorf("%s, %s: %d %s", path, what, a.status, a.body)
			}
		}
	}
	for what, headers := range map[string][]string{
		"two types":       {formHeader, "Content-Type: application/json"},
		"a hidden coding": {formHeader, "Content-Encoding: ", "Content-Encoding: gzip"},
	} {
		refusedToken(t, what, w.send("POST", "/token", w.good(), headers...), 400, "invalid_request")
	}
	w.token(w.send("POST", "/token", w.good(), formHeader, "Content-Encoding: "))
}

// TestAllLinesOfAListHeaderCount: a second line of a header that may have several is not lost.
func TestAllLinesOfAListHeaderCount(t *testing.T) {
	w := newWorld(t).withAlice()
	mine, other := w.cookieOf(w.loginByCookie()), w.cookieOf(w.loginByCookie())
	refusedToken(t, "different cookies in two lines", w.send("POST", "/session/refresh", "", "Cookie: "+mine, "Cookie: "+other), 401, "invalid_grant")
	w.cookieOf(w.send("POST", "/session/refresh", "", "Cookie: theme=dark", "Cookie: "+mine))
	a := w.send("OPTIONS", "/token", "", "Origin: "+appOrigin, "Access-Control-Request-Method: POST",
		"Access-Control-Request-Headers: authorization", "Access-Control-Request-Headers: traceparent")
	if allowed := a.header.Get("Access-Control-Allow-Headers"); a.status != 204 || allowed != "authorization, traceparent" {
		t.Errorf("%d %q", a.status, allowed)
	}
}

// TestARepeatedHostIsRefused sends what Go's client cannot send.
func TestARepeatedHostIsRefused(t *testing.T) {
	w := newWorld(t)
	w.server.cfg.TrialHosts = []string{"127.0.0.1"}
	for _, hosts := range []string{"Host: 127.0.0.1\r\nHost: evil.example\r\n", "Host: evil.example\r\nHost: 127.0.0.1\r\n", "Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n"} {
		c, err := net.Dial("tcp", w.public.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\n%sConnection: close\r\n\r\n", hosts)
		answer, err := io.ReadAll(c)
		c.Close()
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
			t.Errorf("%q: %q, %v", hosts, answer, err)
		}
	}
}

// TestARepeatedHeaderDoesNotMatterForPublicDocuments: their answers are the same for every caller.
func TestARepeatedHeaderDoesNotMatterForPublicDocuments(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/.well-known/jwks.json", "/.well-known/openid-configuration", "/healthz", "/readyz"} {
		if a := w.send("GET", path, "", "Origin: https://a.example", "Origin: https://b.example", "Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

// TestMoreThanAHundredHeadersAreRefused, whether names repeat or not, with every method, and exactly a hundred are not.
func TestMoreThanAHundredHeadersAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		method, path string
		repeat       bool
	}{{"GET", "/healthz", false}, {"GET", "/healthz", true}, {"POST", "/token", false}, {"OPTIONS", "/token", true}, {"GET", "/nowhere", false}} {
		for n, refused := range map[int]bool{maxHeaderLines - 10: false, maxHeaderLines + 1: true} {
			var headers []string
			for i := range n {
				name := "X-Same"
				if !tt.repeat {
					name = fmt.Sprintf("X-%d", i)
				}
				headers = append(headers, name+": 1")
			}
			a := w.send(tt.method, tt.path, "", headers...)
			if (a.status == 431) != refused || refused && !strings.Contains(a.body, "too many headers") {
				t.Errorf("%s %s, %d headers, repeated %v: %d %s", tt.method, tt.path, n, tt.repeat, a.status, a.body)
			}
		}
	}
}

// TestEveryAnswerSaysWhetherCachesMayKeepIt, and that its type is right: also errors that no handler sees, and answers of the
// key set, whose handler writes every line itself.
func TestEveryAnswerSaysWhetherCachesMayKeepIt(t *testing.T) {
	w := newWorld(t)
	set, public, no := keyset.Path, "public, max-age=300", "no-store"
	tooMany := slices.Repeat([]string{"X-More: 1"}, maxHeaderLines+1)
	for _, tt := range []struct {
		method, path string
		headers      []string
		status       int
		cache        string
	}{
		{"GET", set, nil, 200, public},
		{"HEAD", set, nil, 200, public},
		{"GET", set, []string{"If-None-Match: *"}, 304, public},
		{"GET", set, tooMany, 431, no},
		{"POST", set, nil, 405, no},
		{"GET", openIDDocument, nil, 200, public},
		{"GET", "/healthz", nil, 200, no},
		{"GET", "/none", nil, 404, no},
		{"POST", "/token", nil, 400, no},
	} {
		a := w.send(tt.method, tt.path, "", tt.headers...)
		if cache := a.header["Cache-Control"]; a.status != tt.status || !slices.Equal(cache, []string{tt.cache}) || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %d, %v", tt.method, tt.path, a.status, a.header)
		}
	}
	w.server.cfg.KeySet = keyset.New(time.Minute) // to which nothing was published
	rt := w.server.newRouter(unavailable{}, w.server.admit)
	w.server.publicRoutes(rt)
	early := httptest.NewRecorder()
	rt.ServeHTTP(early, httptest.NewRequest("GET", set, nil))
	if h := early.Header(); early.Code != 503 || h.Get("Cache-Control") != no || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("before the first set: %d, %v", early.Code, h)
	}
}
