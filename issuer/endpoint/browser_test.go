package endpoint

import (
	"net/http"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// cookieOf returns what a browser sends back, and fails unless the cookie has the documented
// attributes.
func (w *world) cookieOf(a answer) string {
	w.t.Helper()
	set := a.header["Set-Cookie"]
	if a.status != 200 || len(set) != 1 {
		w.t.Fatalf("no cookie: %d %v %s", a.status, a.header, a.body)
	}
	c, err := http.ParseSetCookie(set[0])
	https := strings.HasPrefix(w.url, "https")
	name := map[bool]string{true: "__Host-keymill-web", false: "keymill-web"}[https]
	if err != nil || c.Name != name || c.Secure != https || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode ||
		c.Path != "/" || c.Domain != "" || c.MaxAge < 1 || !strings.HasPrefix(c.Value, "kmr_") {
		w.t.Fatalf("cookie %q", set[0])
	}
	return c.Name + "=" + c.Value
}

func cleared(a answer) bool {
	set := a.header["Set-Cookie"]
	if len(set) != 1 {
		return false
	}
	c, err := http.ParseSetCookie(set[0])
	return err == nil && c.MaxAge < 0 && c.Value == "" && c.Path == "/" && c.HttpOnly && c.Name == "__Host-keymill-web" && c.Secure
}

func (w *world) loginByCookie(headers ...string) answer {
	w.t.Helper()
	return w.postJSON("/session/login", credentials("alice", alicesPassword), headers...)
}

// R100.
func TestTheRefreshTokenIsOnlyInTheCookie(t *testing.T) {
	for _, url := range []string{testIssuer, "http://127.0.0.1:8420"} {
		w := newWorldAt(t, url).withAlice()
		a := w.loginByCookie()
		cookie := w.cookieOf(a)
		m := a.json(t)
		if len(m) != 4 || m["access_token"] == "" || m["token_type"] != "Bearer" || m["scope"] != "read write" || m["expires_in"] != 900.0 {
			t.Errorf("%s", a.body)
		}
		if a.header.Get("Cache-Control") != "no-store" || strings.Contains(a.body, "kmr_") {
			t.Errorf("%v %s", a.header, a.body)
		}
		next := w.send("POST", "/session/refresh", "", "Cookie: "+cookie)
		if w.cookieOf(next) == cookie || strings.Contains(next.body, "kmr_") {
			t.Errorf("%s", next.body)
		}
		narrow := w.postJSON("/session/refresh", `{"scope":"read","audience":"orders"}`, "Cookie: "+w.cookieOf(next))
		if narrow.json(t)["scope"] != "read" {
			t.Errorf("%s", narrow.body)
		}
	}
}

// R100.
func TestTheCookieExpiresWithTheToken(t *testing.T) {
	w := newWorld(t).withAlice(func(c *api.NewClient) { c.Idle = "2h" })
	c, err := http.ParseSetCookie(w.loginByCookie().header.Get("Set-Cookie"))
	if err != nil || c.MaxAge > 7200 || c.MaxAge < 7190 {
		t.Errorf("%v %v", c, err)
	}
}

// R100.
func TestLogoutEndsTheSessionAtTheServer(t *testing.T) {
	w := newWorld(t).withAlice()
	cookie := w.cookieOf(w.loginByCookie())
	for what, a := range map[string]answer{
		"logout":          w.send("POST", "/session/logout", "", "Cookie: "+cookie),
		"again":           w.send("POST", "/session/logout", "", "Cookie: "+cookie),
		"no session":      w.send("POST", "/session/logout", ""),
		"an empty object": w.postJSON("/session/logout", "{}"),
		"garbage":         w.send("POST", "/session/logout", "", "Cookie: __Host-keymill-web=garbage"),
		"broken":          w.send("POST", "/session/logout", "", `Cookie: __Host-keymill-web="a b`),
	} {
		if a.status != 204 || a.body != "" || !cleared(a) {
			t.Errorf("%s: %d %v %s", what, a.status, a.header, a.body)
		}
	}
	a := w.send("POST", "/session/refresh", "", "Cookie: "+cookie)
	refusedToken(t, "refresh", a, 401, "invalid_grant")
}

// R100.
func TestANewLoginEndsTheOldSession(t *testing.T) {
	w := newWorld(t).withAlice()
	old := w.cookieOf(w.loginByCookie())
	fresh := w.cookieOf(w.loginByCookie("Cookie: " + old))
	refusedToken(t, "the old one", w.send("POST", "/session/refresh", "", "Cookie: "+old), 401, "invalid_grant")
	w.cookieOf(w.send("POST", "/session/refresh", "", "Cookie: "+fresh))
	failed := w.postJSON("/session/login", credentials("alice", "wrong"), "Cookie: "+fresh)
	if failed.header.Get("Set-Cookie") != "" {
		t.Error("a failed login changes the cookie")
	}
	w.cookieOf(w.send("POST", "/session/refresh", "", "Cookie: "+fresh))
}

func TestMalformedCookiesAreRefused(t *testing.T) {
	w := newWorld(t).withAlice()
	cookie := w.cookieOf(w.loginByCookie())
	other := w.cookieOf(w.loginByCookie())
	for what, sent := range map[string][]string{
		"none":            nil,
		"empty":           {"Cookie: __Host-keymill-web="},
		"another name":    {"Cookie: keymill-web=" + strings.TrimPrefix(cookie, "__Host-keymill-web=")},
		"garbage":         {"Cookie: __Host-keymill-web=%%%"},
		"quotes":          {`Cookie: __Host-keymill-web="kmr_x"`},
		"not ASCII":       {"Cookie: __Host-keymill-web=\xff\xfe"},
		"only separators": {"Cookie: ;;=;,"},
		"long":            {"Cookie: __Host-keymill-web=" + strings.Repeat("k", 9000)},
		"two":             {"Cookie: " + cookie + "; " + other},
		"two headers":     {"Cookie: " + other, "Cookie: " + cookie},
	} {
		a := w.send("POST", "/session/refresh", "", sent...)
		refusedToken(t, what, a, 401, "invalid_grant")
		if a.header.Get("Set-Cookie") != "" || a.header.Get("Www-Authenticate") != `Session realm="keymill"` {
			t.Errorf("%s: %v", what, a.header)
		}
	}
	w.cookieOf(w.send("POST", "/session/refresh", "", "Cookie: "+other))
	w.cookieOf(w.send("POST", "/session/refresh", "", "Cookie: "+cookie+"; "+cookie+"; x=y")) // the same twice
	third := w.cookieOf(w.loginByCookie())
	fourth := w.cookieOf(w.loginByCookie())
	w.send("POST", "/session/logout", "", "Cookie: "+third+"; "+fourth)
	for _, c := range []string{third, fourth} {
		refusedToken(t, "both ended", w.send("POST", "/session/refresh", "", "Cookie: "+c), 401, "invalid_grant")
	}
}

func TestTheCookieIsClearedOnlyIfItsSessionHasEnded(t *testing.T) {
	w := newWorld(t).withAlice()
	cookie := w.cookieOf(w.loginByCookie())
	for what, a := range map[string]answer{
		"bad scope":    w.postJSON("/session/refresh", `{"scope":"admin"}`, "Cookie: "+cookie),
		"bad audience": w.postJSON("/session/refresh", `{"audience":"shop"}`, "Cookie: "+cookie),
		"bad body":     w.postJSON("/session/refresh", `{"refresh_token":"x"}`, "Cookie: "+cookie),
		"bad media":    w.send("POST", "/session/refresh", "scope=read", formHeader, "Cookie: "+cookie),
		"cross-site":   w.send("POST", "/session/refresh", "", "Origin: https://evil.example", "Cookie: "+cookie),
		"no login":     w.postJSON("/session/login", credentials("alice", "wrong"), "Cookie: "+cookie),
	} {
		if a.header.Get("Set-Cookie") != "" || a.status < 400 {
			t.Errorf("%s: %d %v", what, a.status, a.header)
		}
	}
	w.cookieOf(w.send("POST", "/session/refresh", "", "Cookie: "+cookie))
}

func TestTheBrowserEndpointReadsJSONStrictly(t *testing.T) {
	w := newWorld(t).withAlice()
	good := `{"username":"alice","password":"` + alicesPassword + `"}`
	for _, tt := range []struct {
		media, body string
		status      int
		code        string
	}{
		{"application/json", "", 400, "invalid_request"},
		{"", "", 400, "invalid_request"},
		{"", good, 415, "invalid_request"},
		{"text/plain", good, 415, "invalid_request"},
		{"text/plain", "", 400, "invalid_request"},
		{"application/x-www-form-urlencoded", "username=alice&password=x", 415, "invalid_request"},
		{"multipart/form-data; boundary=B", good, 415, "invalid_request"},
		{"application/json, text/plain", good, 415, "invalid_request"},
		{"application/json", "[]", 400, "invalid_request"},
		{"application/json", "null", 400, "invalid_request"},
		{"application/json", good + "x", 400, "invalid_request"},
		{"application/json", `{"username":"alice"}`, 400, "invalid_request"},
		{"application/json", `{"username":"alice","password":null}`, 400, "invalid_request"},
		{"application/json", `{"username":"alice","password":5}`, 400, "invalid_request"},
		{"application/json", `{"username":"alice","password":"x","password":"x"}`, 400, "invalid_request"},
		{"application/json", `{"username":"alice","Password":"x"}`, 400, "invalid_request"},
		{"application/json", `{"username":"alice","password":"\ud800"}`, 400, "invalid_request"},
		{"application/json", "{\"username\":\"\xff\",\"password\":\"x\"}", 400, "invalid_request"},
		{"application/json", `{"username":"alice","password":"wrong"}`, 401, "invalid_grant"},
		{"application/json; charset=utf-8", good, 200, ""},
	} {
		var headers []string
		if tt.media != "" {
			headers = append(headers, "Content-Type: "+tt.media)
		}
		a := w.send("POST", "/session/login", tt.body, headers...)
		if code, _ := a.json(t)["error"].(string); a.status != tt.status || code != tt.code || (a.status != 200) != (a.header.Get("Set-Cookie") == "") {
			t.Errorf("%q %q: %d %s", tt.media, tt.body, a.status, a.body)
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE", "HEAD", "OPTIONS"} {
		for _, path := range []string{"/session/login", "/session/refresh", "/session/logout"} {
			if a := w.send(method, path, ""); a.status != 405 || a.header.Get("Allow") != "POST" {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
}

// R98.
func TestFailedLoginsHaveTheSameAnswer(t *testing.T) {
	w := newWorld(t).withAlice()
	w.user("bob", "8")
	off := true
	if _, err := w.issuer.SetUser(t.Context(), "bob", api.UserChange{Disabled: &off}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/session/login", "/api/token/"} {
		first := w.postJSON(path, credentials("alice", "wrong"))
		if first.status != 401 || strings.Contains(first.header.Get("Www-Authenticate"), "Basic") {
			t.Errorf("%s: %d %v", path, first.status, first.header)
		}
		for what, c := range map[string]map[string]string{
			"unknown": credentials("unknown", "wrong"), "disabled": credentials("bob", alicesPassword), "strange": credentials("\u202e", "x"),
			"by id": credentials("7", alicesPassword), "a client": credentials("web", "x"), "long": credentials(strings.Repeat("n", 3000), strings.Repeat("p", 4000)),
		} {
			a := w.postJSON(path, c)
			a.header.Del("Date")
			first.header.Del("Date")
			if is(t, path+" "+what, a, 401, first.body); len(a.header) != len(first.header) {
				t.Errorf("%s: %v and %v", what, a.header, first.header)
			}
		}
	}
}

// R96.
func TestPasswordsAreComparedToTheLastByte(t *testing.T) {
	w := newWorld(t).withAlice()
	long := strings.Repeat("0123456789", 12) + "é"
	if _, err := w.issuer.SetPassword(t.Context(), "alice", refusal.Secret(long), "uid:0"); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{long[:72], long + "x", long[:72] + "x" + long[73:], strings.ToUpper(long)} {
		if a := w.postJSON("/session/login", credentials("alice", wrong)); a.status != 401 {
			t.Errorf("%q: %d", wrong, a.status)
		}
	}
	w.cookieOf(w.postJSON("/session/login", credentials("alice", long)))
	w.pairOf(w.postJSON("/api/token/", credentials("alice", long)))
}

// R102.
func TestPagesOfOtherOriginsAreRefusedFirst(t *testing.T) {
	w := newWorld(t).withAlice()
	cookie := "Cookie: " + w.cookieOf(w.loginByCookie())
	for _, tt := range []struct {
		origin, site string
		ok           bool
	}{
		{"", "", true}, // no browser
		{"", "same-origin", true},
		{"", "none", true},
		{"", "same-site", false},
		{"", "cross-site", false},
		{"", "nonsense", false},
		{testIssuer, "same-origin", true},
		{testIssuer, "", true},           // an old browser: the Host header is that of the backend
		{appOrigin, "same-origin", true}, // a proxy on the page's origin
		{appOrigin, "cross-site", false},
		{appOrigin, "same-site", true},
		{appOrigin, "", true},
		{"http://auth.example.com", "same-origin", false}, // of the same host, but not https
		{"http://auth.example.com", "cross-site", false},
		{"http://app.example.com", "cross-site", false},
		{"https://evil.example", "cross-site", false},
		{"https://evil.example", "same-origin", false}, // no browser says this
		{"https://evil.example", "", false},
		{"https://app.example.com.evil", "", false},
		{"null", "cross-site", false},
		{"null", "", false},
		{"*", "", false},
		{"https://app.example.com/", "", false},
		{"HTTPS://APP.EXAMPLE.COM", "", false},
	} {
		var headers []string
		if tt.origin != "" {
			headers = append(headers, "Origin: "+tt.origin)
		}
		if tt.site != "" {
			headers = append(headers, "Sec-Fetch-Site: "+tt.site)
		}
		for path, body := range map[string]string{
			"/session/login":   `{"username":"alice","password":"` + alicesPassword + `"}`,
			"/session/refresh": "{}",
			"/session/logout":  "not JSON",
		} {
			a := w.postJSON(path, body, append(headers, cookie)...)
			if refused := a.status == 403; refused == tt.ok || refused && (a.code(t) != "access_denied" || a.header.Get("Set-Cookie") != "") {
				t.Errorf("%s from %q, %q: %d %s", path, tt.origin, tt.site, a.status, a.body)
			}
			if a.status == 200 {
				if path == "/session/login" {
					cookie = "Cookie: " + w.cookieOf(a)
				}
			}
		}
	}
	refusedToken(t, "two origins", w.loginByCookie("Origin: "+appOrigin, "Origin: "+testIssuer), 400, "invalid_request")
}

// R102.
func TestAChangedListOfOriginsAppliesAtOnce(t *testing.T) {
	w := newWorld(t).withAlice()
	fresh := "https://fresh.example.com"
	w.cookieOf(w.loginByCookie("Origin: "+appOrigin, "Sec-Fetch-Site: same-site"))
	refusedToken(t, "before", w.loginByCookie("Origin: "+fresh), 403, "access_denied")
	list := []string{fresh}
	w.setClient("web", api.ClientChange{Origins: &list})
	w.cookieOf(w.loginByCookie("Origin: "+fresh, "Sec-Fetch-Site: same-site"))
	refusedToken(t, "taken away", w.loginByCookie("Origin: "+appOrigin, "Sec-Fetch-Site: same-site"), 403, "access_denied")
}

func TestTheBrowserEndpointAllowsCookiesOnlyForTheClientsOrigins(t *testing.T) {
	w := newWorld(t).withAlice()
	const allow, credentialed = "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"
	for origin, listed := range map[string]bool{appOrigin: true, testIssuer: false, "https://evil.example": false, "null": false} {
		for _, path := range []string{"/session/login", "/session/refresh", "/session/logout"} {
			preflight := w.send("OPTIONS", path, "", "Origin: "+origin, "Access-Control-Request-Method: POST")
			if (preflight.status == 204) != listed {
				t.Errorf("preflight of %s from %s: %d", path, origin, preflight.status)
			}
			for what, a := range map[string]answer{"preflight": preflight, "answer": w.postJSON(path, "{}", "Origin: "+origin)} {
				if (a.header.Get(allow) == origin) != listed || (a.header.Get(credentialed) == "true") != listed || !strings.HasPrefix(a.header.Get("Vary"), "Origin") {
					t.Errorf("%s of %s from %s: %v", what, path, origin, a.header)
				}
			}
		}
	}
	if a := w.loginByCookie("Origin: " + appOrigin); w.cookieOf(a) == "" || a.header.Get(allow) != appOrigin || a.header.Get(credentialed) != "true" {
		t.Errorf("%v", a.header)
	}
	off := true
	w.setClient("web", api.ClientChange{Disabled: &off})
	if a := w.loginByCookie("Origin: " + appOrigin); a.status != 403 || a.header.Get(allow) != "" {
		t.Errorf("a disabled client's origin: %d %v", a.status, a.header)
	}
}

func TestTheCookieIsNamedAfterTheClient(t *testing.T) {
	for client, want := range map[string]string{"web": "keymill-web", "a.b_c~1!": "keymill-a.b_c~1!", "a b": "", `a"b`: "", "a=b": "", "a;b": "", "a/b": "", "": "", "é": "", "a\x7f": "", "a,b": ""} {
		plain, err1 := CookieName(client, "http://127.0.0.1:8420")
		host, err2 := CookieName(client, testIssuer)
		if want == "" {
			if err1 == nil || err2 == nil {
				t.Errorf("%q was accepted", client)
			}
			continue
		}
		if err1 != nil || err2 != nil || plain != want || host != "__Host-"+want {
			t.Errorf("%q: %q %q %v %v", client, plain, host, err1, err2)
		}
		if c := (&http.Cookie{Name: host, Value: "x"}); c.Valid() != nil {
			t.Errorf("%q: %v", host, c.Valid())
		}
	}
	w := newWorld(t)
	cfg := w.server.cfg
	cfg.Browser.Client = "a b"
	if _, err := New(cfg); err == nil {
		t.Error("New accepted a client whose id cannot name a cookie")
	}
}
