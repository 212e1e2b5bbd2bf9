package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

const testHost = "127.0.0.1:8421"

// A visitor sends requests as a browser does.
type visitor struct {
	site    *site
	cookies []*http.Cookie
}

func newVisitor(server *adminapi.Client) *visitor { return &visitor{site: newSite(testHost, server)} }

// send sends a request with headers: name, value, …
func (v *visitor) send(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = testHost
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://"+testHost)
	}
	for _, c := range v.cookies {
		r.AddCookie(c)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	v.site.ServeHTTP(w, r)
	v.cookies = append(v.cookies, w.Result().Cookies()...)
	return w
}

func (v *visitor) enter(code string) *httptest.ResponseRecorder {
	return v.send(http.MethodPost, "/login", url.Values{"code": {code}}.Encode())
}

// login logs in and returns the path of the first page.
func (v *visitor) login(t *testing.T) string {
	t.Helper()
	w := v.enter(v.site.door.code)
	if w.Code != http.StatusSeeOther || len(v.cookies) != 1 {
		t.Fatalf("the login answered %d with %d cookies: %s", w.Code, len(v.cookies), w.Body)
	}
	if v.site.server != nil {
		for _, w := range []*watch{v.site.watchedReplays, v.site.watchedKeys} {
			if _, err := w.read(t.Context(), v.site.server.Audit, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w.Header().Get("Location")
}

// refused checks that an answer has a status, says why, and gives nothing away.
func refused(t *testing.T, w *httptest.ResponseRecorder, status int, why string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), why) {
		t.Errorf("answered %d, want %d and %q:\n%s", w.Code, status, why, w.Body)
	}
	if len(w.Result().Cookies()) > 0 || w.Header().Get("Location") != "" {
		t.Errorf("a refusal has a cookie or a location: %v", w.Header())
	}
}

// R120.
func TestALinkWorksOnce(t *testing.T) {
	v := newVisitor(nil)
	refused(t, v.enter("FORGED"), http.StatusForbidden, "not the code")
	refused(t, v.enter(""), http.StatusForbidden, "not the code")
	if at := v.login(t); at != "/"+v.site.door.prefix+"/" {
		t.Errorf("the login leads to %s", at)
	}
	c := v.cookies[0]
	if c.Path != v.site.base() || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.MaxAge != 0 || !c.Expires.IsZero() || c.Domain != "" {
		t.Errorf("the cookie is %v", c)
	}
	refused(t, v.enter(v.site.door.code), http.StatusForbidden, "used already")
}

// R120.
func TestALinkExpiresAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisitor(nil)
		expired := make(chan bool, 1)
		go func() { expired <- v.site.door.wait(t.Context()) }()
		time.Sleep(linkTime)
		refused(t, v.enter(v.site.door.code), http.StatusForbidden, "expired")
		if !<-expired {
			t.Error("the terminal is not told that the link has expired")
		}
		v = newVisitor(nil)
		go func() { expired <- v.site.door.wait(t.Context()) }()
		time.Sleep(linkTime - time.Second)
		v.login(t)
		if <-expired {
			t.Error("a link that was used has expired")
		}
	})
}

// R120.
func TestTenWrongCodesEndTheLink(t *testing.T) {
	v := newVisitor(nil)
	for range maxAttempts {
		refused(t, v.enter("FORGED"), http.StatusForbidden, "not the code")
	}
	refused(t, v.enter(v.site.door.code), http.StatusForbidden, "Too many wrong codes")
}

// TestSecretsAreNewAndLong: 128 bits, which base32 writes in 26 characters.
func TestSecretsAreNewAndLong(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		d := newDoor(time.Now())
		for _, secret := range []string{d.code, d.prefix, d.cookie} {
			if len(secret) < 26 || seen[secret] {
				t.Errorf("the secret %q is short, or not new", secret)
			}
			seen[secret] = true
		}
	}
}

// R120.
func TestAPageNeedsTheCookieAndThePath(t *testing.T) {
	v := newVisitor(nil)
	base := v.login(t)
	refused(t, v.send("GET", base+"nothing", ""), http.StatusNotFound, "no such page")
	refused(t, v.send("GET", "/"+strings.Repeat("A", 26)+"/", ""), http.StatusNotFound, "no such page")
	refused(t, v.send("GET", strings.TrimSuffix(base, "/"), ""), http.StatusNotFound, "no such page")
	other := &visitor{site: v.site}
	refused(t, other.send("GET", base, ""), http.StatusForbidden, "not logged in")
	other.cookies = []*http.Cookie{{Name: cookieName, Value: strings.Repeat("A", 26)}}
	refused(t, other.send("GET", base+"keys", ""), http.StatusForbidden, "not logged in")
	// Another port of the host has set a cookie of the same name.
	v.cookies = append([]*http.Cookie{{Name: cookieName, Value: "other"}}, v.cookies...)
	refused(t, v.send("GET", base+"nothing", ""), http.StatusNotFound, "This console has no such page.")
}

// R120.
func TestOtherSitesAreNotAnswered(t *testing.T) {
	v := newVisitor(nil)
	base := v.login(t)
	link := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	for _, tt := range []struct {
		method, path string
		headers      []string
		status       int
		why          string
	}{
		{"GET", base, []string{"Host", "localhost:8421"}, 421, "answers only at http://" + testHost},
		{"GET", base, []string{"Host", "rebound.example:8421"}, 421, "answers only at"},
		{"POST", "/login", []string{"Host", "rebound.example:8421", "Origin", "http://rebound.example:8421"}, 421, "answers only at"},
		{"GET", base, []string{"Host", "127.0.0.1"}, 421, "answers only at"},
		{"GET", "/static/console.css", []string{"Host", "127.0.0.1:8422"}, 421, "answers only at"},
		{"GET", base, []string{"Sec-Fetch-Site", "cross-site"}, 403, "Another site"},
		{"GET", base, []string{"Sec-Fetch-Site", "same-site"}, 403, "Another site"},
		{"GET", base, link, 403, "Another site"},
		{"GET", "/login", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 403, "Another site"},
		{"GET", "/login", link, 200, "Code"},
		{"POST", "/login", link, 403, "Another site"},
		{"POST", "/login", []string{"Origin", "https://evil.example"}, 403, "Another site"},
		{"POST", "/login", []string{"Origin", "http://127.0.0.1:8422"}, 403, "Another site"},
		{"POST", "/login", []string{"Origin", "https://" + testHost}, 403, "Another site"},
		{"POST", "/login", []string{"Origin", "null"}, 403, "Another site"},
		{"POST", "/login", []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403, "Another site"},
		{"POST", "/login", []string{"Origin", ""}, 403, "Another site"},
		{"POST", "/login", []string{"Sec-Fetch-Site", "same-site"}, 403, "Another site"},
		{"POST", "/login", []string{"Origin", "null", "Sec-Fetch-Site", "same-origin"}, 403, "used already"},
		{"POST", base + "sessions/why", []string{"Origin", "https://evil.example"}, 403, "Another site"},
		{"GET", base + "sessions/why", nil, 405, "does not answer GET"},
		{"POST", base + "keys", nil, 405, "does not answer POST"},
		{"DELETE", base, nil, 405, "GET, HEAD and POST"},
		{"OPTIONS", base, []string{"Origin", "https://evil.example"}, 405, "GET, HEAD and POST"},
	} {
		w := v.send(tt.method, tt.path, "code="+v.site.door.code, tt.headers...)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.why) {
			t.Errorf("%s %s %v: answered %d, want %d and %q", tt.method, tt.path, tt.headers, w.Code, tt.status, tt.why)
		}
		strict(t, w)
	}
}

// strict checks the headers of an answer.
func strict(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	h := w.Header()
	for name, want := range map[string]string{
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if h.Get(name) != want {
			t.Errorf("%s is %q", name, h.Get(name))
		}
	}
	for _, directive := range []string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'", "form-action 'self'",
		"base-uri 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
	} {
		if !strings.Contains(h.Get("Content-Security-Policy")+";", directive+";") {
			t.Errorf("the policy lacks %s", directive)
		}
	}
	if w.Code != http.StatusSeeOther && h.Get("Content-Type") == "" {
		t.Error("the answer has no type")
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("the answer has %s", name)
		}
	}
}

// TestASecondConsoleHasItsOwnSecrets: the link and the cookie of one are nothing to the other.
//
// R120.
func TestASecondConsoleHasItsOwnSecrets(t *testing.T) {
	one, two := newVisitor(nil), newVisitor(nil)
	refused(t, two.enter(one.site.door.code), http.StatusForbidden, "not the code")
	first, second := one.login(t), two.login(t)
	if first == second || one.cookies[0].Path == two.cookies[0].Path {
		t.Error("two consoles share a path, so a browser replaces one cookie by the other")
	}
	two.cookies = one.cookies
	refused(t, two.send("GET", second, ""), http.StatusForbidden, "not logged in")
	refused(t, two.send("GET", first, ""), http.StatusNotFound, "no such page")
}

func TestAConsoleEndsAfterThirtyIdleMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var notes terminaltest.Buffer
		c, v, ended := Console{Notes: &notes}, newVisitor(nil), make(chan struct{})
		defer c.endIdle(v.site, func() { close(ended) }).Stop()
		base := v.login(t)
		begin := time.Now()
		time.Sleep(20 * time.Minute)
		v.send("GET", base+"nothing", "") // someone looks
		for range 25 {
			time.Sleep(time.Minute)
			v.send("GET", base+"nothing?auto=1", "") // the page renews itself
			v.send("GET", "/login", "")
			(&visitor{site: v.site}).send("GET", base, "")
		}
		<-ended
		if got := time.Since(begin); got != 50*time.Minute {
			t.Errorf("the console ended after %v, want 50 minutes", got)
		}
		if want := "no page was asked for during 30 minutes"; !strings.Contains(notes.String(), want) {
			t.Errorf("the terminal says %q", notes.String())
		}
	})
}

func TestAFormIsBounded(t *testing.T) {
	v := newVisitor(nil)
	refused(t, v.enter(strings.Repeat("A", maxBodyBytes)), http.StatusForbidden, "not the code")
}

func TestTheFilesSayNothing(t *testing.T) {
	v := newVisitor(nil)
	for path, want := range map[string]string{
		"console.css": "text/css", "console.js": "text/javascript", "login.js": "text/javascript", "icon.svg": "image/svg+xml",
	} {
		w := v.send("GET", "/static/"+path, "")
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		strict(t, w)
	}
	for _, path := range []string{"", "x", "../site.go", "static", "%2e%2e/site.go"} {
		if w := v.send("GET", "/static/"+path, ""); w.Code != 404 {
			t.Errorf("/static/%s: %d", path, w.Code)
		}
	}
	w := v.send("GET", "/", "")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/login" {
		t.Errorf("/ answers %d", w.Code)
	}
	if body := fmt.Sprint(v.send("GET", "/login", "").Body); strings.Contains(body, v.site.door.prefix) || strings.Contains(body, v.site.door.code) {
		t.Error("the page for the login has a secret")
	}
}
