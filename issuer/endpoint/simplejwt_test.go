package endpoint

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
)

const (
	notValid    = `{"detail":"Token is invalid or expired","code":"token_not_valid"}`
	blacklisted = `{"detail":"Token is blacklisted","code":"token_not_valid"}`
	noAccount   = `{"detail":"No active account found with the given credentials"}`
	bothMissing = `{"username":["This field is required."],"password":["This field is required."]}`
)

func TestThePairHasTheFormatOfSimpleJWT(t *testing.T) {
	w := newWorld(t).withAlice()
	a := w.postJSON("/api/token/", credentials("alice", alicesPassword))
	p := w.pairOf(a)
	if len(a.json(t)) != 2 || !strings.HasPrefix(a.body, `{"refresh":"kmr_`) || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s", a.header, a.body)
	}
	if c := segment(t, p.Access, 1); c["sub"] != "7" || c["aud"] != "orders" {
		t.Errorf("claims %v", c)
	}
	is(t, "verify access", w.postJSON("/api/token/verify/", map[string]string{"token": p.Access}), 200, "{}")
	is(t, "verify refresh", w.postJSON("/api/token/verify/", map[string]string{"token": p.Refresh}), 200, "{}")
	a = w.postJSON("/api/token/refresh/", map[string]string{"refresh": p.Refresh})
	next := w.pairOf(a)
	if len(a.json(t)) != 2 || !strings.HasPrefix(a.body, `{"access":"`) || next.Refresh == p.Refresh {
		t.Errorf("%s", a.body)
	}
	is(t, "access to blacklist", w.postJSON("/api/token/blacklist/", map[string]string{"refresh": next.Access}), 401,
		`{"detail":"Token has wrong type","code":"token_not_valid"}`)
	is(t, "access as refresh", w.postJSON("/api/token/refresh/", map[string]string{"refresh": next.Access}), 401,
		`{"detail":"Token has wrong type","code":"token_not_valid"}`)
	is(t, "blacklist", w.postJSON("/api/token/blacklist/", map[string]string{"refresh": next.Refresh}), 200, "{}")
	is(t, "blacklist again", w.postJSON("/api/token/blacklist/", map[string]string{"refresh": next.Refresh}), 401, blacklisted)
	is(t, "refresh after it", w.postJSON("/api/token/refresh/", map[string]string{"refresh": next.Refresh}), 401, blacklisted)
	is(t, "verify after it", w.postJSON("/api/token/verify/", map[string]string{"token": next.Refresh}), 400, `{"non_field_errors":["Token is blacklisted"]}`)
}

func TestAUsedTokenIsBlacklistedForSimpleJWT(t *testing.T) {
	w := newWorld(t).withAlice(func(c *api.NewClient) { c.Grace = "0s" })
	p := w.obtain()
	w.pairOf(w.postJSON("/api/token/refresh/", map[string]string{"refresh": p.Refresh}))
	is(t, "verify", w.postJSON("/api/token/verify/", map[string]string{"token": p.Refresh}), 400, `{"non_field_errors":["Token is blacklisted"]}`)
	is(t, "refresh", w.postJSON("/api/token/refresh/", map[string]string{"refresh": p.Refresh}), 401, blacklisted)
}

func TestAnExpiredTokenIsInvalidAtEveryPath(t *testing.T) {
	w := newWorld(t).withAlice(func(c *api.NewClient) { c.Idle = "1s" })
	p := w.obtain()
	time.Sleep(1100 * time.Millisecond)
	for _, path := range []string{"/api/token/refresh/", "/api/token/blacklist/"} {
		is(t, path, w.postJSON(path, map[string]string{"refresh": p.Refresh}), 401, notValid)
	}
}

// TestSimpleJWTAnswersAsRESTFrameworkDoes compares with bodies that were recorded from
// djangorestframework 3.14 with simplejwt 5.2.2.
func TestSimpleJWTAnswersAsRESTFrameworkDoes(t *testing.T) {
	w := newWorld(t).withAlice()
	const form, multi = "application/x-www-form-urlencoded", "multipart/form-data; boundary=B"
	part := func(name, text string) string {
		return "--B\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + text + "\r\n"
	}
	both := part("username", "alice") + part("password", "wrong") + "--B--\r\n"
	for _, tt := range []struct {
		path, media, body string
		status            int
		want              string // a part of the body, or the whole body if it begins with {
	}{
		{"/", "", "", 400, bothMissing},
		{"/", "application/json", "", 400, bothMissing},
		{"/", "text/plain", "", 400, bothMissing},
		{"/", "application/json", "{}", 400, bothMissing},
		{"/", "application/json", "[]", 400, `{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}`},
		{"/", "application/json", ` "x"`, 400, `{"non_field_errors":["Invalid data. Expected a dictionary, but got str."]}`},
		{"/", "application/json", "3", 400, `{"non_field_errors":["Invalid data. Expected a dictionary, but got int."]}`},
		{"/", "application/json", "3.0", 400, `{"non_field_errors":["Invalid data. Expected a dictionary, but got float."]}`},
		{"/", "application/json", "false", 400, `{"non_field_errors":["Invalid data. Expected a dictionary, but got bool."]}`},
		{"/", "application/json", "null", 400, `{"non_field_errors":["No data provided"]}`},
		{"/", "application/json", `{"username":"alice"}`, 400, `{"password":["This field is required."]}`},
		{"/", "application/json", `{"password":"x"}`, 400, `{"username":["This field is required."]}`},
		{"/", "application/json", `{"username":"","password":""}`, 400, `{"username":["This field may not be blank."],"password":["This field may not be blank."]}`},
		{"/", "application/json", `{"username":" \t","password":"\u001c\u2003"}`, 400, `{"username":["This field may not be blank."],"password":["This field may not be blank."]}`},
		{"/", "application/json", `{"username":null,"password":null}`, 400, `{"username":["This field may not be null."],"password":["This field may not be null."]}`},
		{"/", "application/json", `{"username":true,"password":[]}`, 400, `{"username":["Not a valid string."],"password":["Not a valid string."]}`},
		{"/", "application/json", `{"username":{},"password":"x"}`, 400, `{"username":["Not a valid string."]}`},
		{"/", "application/json", `{"username":5,"password":5.5}`, 401, noAccount},
		{"/", "application/json", `{"username":"al\u0000ice","password":"x"}`, 400, `{"username":["Null characters are not allowed."]}`},
		{"/", "application/json", `{"username":"al\ud800ice","password":"x"}`, 400, `{"username":["Surrogate characters are not allowed: U+D800."]}`},
		{"/", "application/json", `{"username":"al\ud83d\ude00ice","password":"x"}`, 401, noAccount},
		{"/", "application/json", `{"username":"alice","password":"x","foo":1}`, 401, noAccount},
		{"/", "application/json; charset=latin-1", `{"username":"alice","password":"x"}`, 401, noAccount},
		{"/", "Application/JSON", `{"username":"alice","password":"x"}`, 401, noAccount},
		{"/", "application/json", `{"username":"bob","password":"x"}`, 401, noAccount},
		{"/", "application/json", "{", 400, "JSON parse error - "},
		{"/", "application/json", " ", 400, "JSON parse error - "},
		{"/", "application/json", `{"username":NaN,"password":"x"}`, 400, "JSON parse error - "},
		{"/", "application/json", `{"username":"alice","password":"x"}x`, 400, "JSON parse error - "},
		{"/", "application/json", `{"username":"alice","password":"x",}`, 400, "JSON parse error - "},
		{"/", "application/json", "\ufeff{}", 400, "JSON parse error - "},
		{"/", "application/json", "{\"username\":\"a\",\"password\":\"\t\"}", 400, "JSON parse error - "},
		{"/", "application/json", "{\"username\":\"\xff\",\"password\":\"x\"}", 400, "JSON parse error - "},
		{"/", "application/json", `{"username":"alice","username":"bob","password":"x"}`, 400, "JSON parse error - "}, // REST framework uses the last one
		{"/", "text/plain", `{"username":"alice","password":"x"}`, 415, `{"detail":"Unsupported media type \"text/plain\" in request."}`},
		{"/", "text/xml; charset=utf-8", "x", 415, `{"detail":"Unsupported media type \"text/xml; charset=utf-8\" in request."}`},
		{"/", "", "x", 415, `{"detail":"Unsupported media type \"\" in request."}`},
		{"/", "json", "{}", 415, `{"detail":"Unsupported media type \"json\" in request."}`},
		{"/", form, "username=alice", 400, `{"password":["This field is required."]}`},
		{"/", form, "username=+&password=", 400, `{"username":["This field may not be blank."],"password":["This field may not be blank."]}`},
		{"/", form, "username=al%00ice&password=x", 400, `{"username":["Null characters are not allowed."]}`},
		{"/", form, "username=alice&password=wrong", 401, noAccount},
		{"/", form, "username=a&username=alice&password=x", 400, `"detail"`}, // REST framework uses the last one
		{"/", form, "username=%ff&password=x", 400, `"detail"`},              // REST framework replaces it
		{"/", multi, both, 401, noAccount},
		{"/", multi, part("username", "alice") + "--B--\r\n", 400, `{"password":["This field is required."]}`},
		{"/", multi, strings.Replace(both, `"username"`, `"username"; filename="x"`, 1), 400, `{"username":["Not a valid string."]}`},
		{"/", multi, part("username", "alice") + both, 400, "Multipart form parse error - "},
		{"/", multi, both[:60], 400, "Multipart form parse error - "},
		{"/", "multipart/form-data", both, 400, `{"detail":"Multipart form parse error - Invalid boundary in multipart: None"}`},
		{"/refresh/", "application/json", "{}", 400, `{"refresh":["This field is required."]}`},
		{"/refresh/", "application/json", `{"refresh":null}`, 400, `{"refresh":["This field may not be null."]}`},
		{"/refresh/", "application/json", `{"refresh":" "}`, 400, `{"refresh":["This field may not be blank."]}`},
		{"/refresh/", "application/json", `{"refresh":[]}`, 400, `{"refresh":["Not a valid string."]}`},
		{"/refresh/", "application/json", `{"refresh":5}`, 401, notValid},
		{"/refresh/", "application/json", `{"refresh":"é"}`, 401, notValid},
		{"/refresh/", "application/json", `{"refresh":"a.b.c"}`, 401, notValid},
		{"/verify/", "application/json", "{}", 400, `{"token":["This field is required."]}`},
		{"/verify/", "application/json", `{"token":null}`, 400, `{"token":["This field may not be null."]}`},
		{"/verify/", "application/json", `{"token":"x"}`, 401, notValid},
		{"/blacklist/", "application/json", "{}", 400, `{"refresh":["This field is required."]}`},
		{"/blacklist/", "application/json", `{"refresh":"x"}`, 401, notValid},
	} {
		var headers []string
		if tt.media != "" {
			headers = append(headers, "Content-Type: "+tt.media)
		}
		a := w.send("POST", "/api/token"+tt.path, tt.body, headers...)
		same := a.body == tt.want || !strings.HasPrefix(tt.want, "{") && strings.Contains(a.body, tt.want)
		if a.status != tt.status || !same || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %q %q: got %d %s, want %d %s", tt.path, tt.media, tt.body, a.status, a.body, tt.status, tt.want)
		}
		challenge := a.header.Get("Www-Authenticate")
		if (a.status == 401) != (challenge == `Bearer realm="api"`) || a.status != 401 && challenge != "" {
			t.Errorf("%s %q: challenge %q", tt.path, tt.body, challenge)
		}
	}
}

func TestSimpleJWTAcceptsForms(t *testing.T) {
	w := newWorld(t).withAlice()
	w.pairOf(w.send("POST", "/api/token/", "username=alice&password=correct+horse+battery+staple", formHeader))
	w.pairOf(w.send("POST", "/api/token/", "--B\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nalice\r\n"+
		"--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n"+alicesPassword+"\r\n--B--\r\n", "Content-Type: multipart/form-data; boundary=B"))
	w.pairOf(w.postJSON("/api/token/", credentials(" alice\n", alicesPassword+" "))) // as simplejwt does
}

func TestLoginEndpointsRefuseOtherMethodsPathsAndSizes(t *testing.T) {
	w := newWorld(t).withAlice()
	for _, path := range []string{"/api/token/", "/api/token/refresh/", "/api/token/verify/", "/api/token/blacklist/"} {
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
			a := w.send(method, path, "")
			is(t, method+" "+path, a, 405, `{"detail":"Method \"`+method+`\" not allowed."}`)
			if a.header.Get("Allow") != "POST" {
				t.Errorf("%s %s: Allow %q", method, path, a.header.Get("Allow"))
			}
		}
		if a := w.send("HEAD", path, ""); a.status != 405 || a.body != "" {
			t.Errorf("HEAD %s: %d", path, a.status)
		}
		for _, other := range []string{strings.TrimSuffix(path, "/"), path + "/", strings.ToUpper(path), "/" + path, "/x/.." + path} {
			if a := w.postJSON(other, credentials("alice", alicesPassword)); a.status != 404 || a.header.Get("Location") != "" {
				t.Errorf("%s: %d, Location %q", other, a.status, a.header.Get("Location"))
			}
		}
	}
	for _, path := range []string{"/api/token/", "/session/login", "/session/refresh", "/revoke", "/introspect"} {
		if a := w.send("POST", path, strings.Repeat("x", maxFormBytes+1), jsonHeader); a.status != 413 && a.status != 400 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := w.postJSON("/api/token/", `{"username":"`+strings.Repeat("x", maxFormBytes)+`"}`); a.status != 413 || a.json(t)["detail"] == nil {
		t.Errorf("large: %d %s", a.status, a.body)
	}
	if a := w.send("POST", "/session/refresh", "", "Host: x"); a.code(t) != "invalid_grant" {
		t.Errorf("session: %s", a.body)
	}
}

// R2.
func TestNoPasswordInAURL(t *testing.T) {
	w := newWorld(t).withAlice()
	for _, path := range []string{"/api/token/?password=leaked_in_url", "/api/token/refresh/?refresh=leaked_in_url", "/session/login?password=leaked_in_url", "/session/refresh?refresh_token=leaked_in_url"} {
		if a := w.postJSON(path, credentials("alice", alicesPassword)); a.status != 400 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if strings.Contains(w.log.String(), "leaked_in_url") {
		t.Error("the log contains the password")
	}
}

func TestOnlyTheClientsOriginsMayReadSimpleJWTAnswers(t *testing.T) {
	w := newWorld(t).withAlice()
	const allow = "Access-Control-Allow-Origin"
	for origin, listed := range map[string]bool{appOrigin: true, "https://evil.example": false, "null": false, "http://app.example.com": false, testIssuer: false} {
		for _, path := range []string{"/api/token/", "/api/token/refresh/", "/api/token/verify/", "/api/token/blacklist/"} {
			a := w.postJSON(path, "{}", "Origin: "+origin)
			if (a.header.Get(allow) == origin) != listed || a.header.Get("Vary") != "Origin" || a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s from %s: %v", path, origin, a.header)
			}
			a = w.send("OPTIONS", path, "", "Origin: "+origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
			if (a.status == 204) != listed || (a.header.Get(allow) == origin) != listed || a.header.Get("Vary") != preflightVary || a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("preflight of %s from %s: %d %v", path, origin, a.status, a.header)
			}
		}
	}
	w.client("other")
	other := []string{"https://other.example"}
	w.setClient("other", api.ClientChange{Origins: &other})
	if a := w.send("OPTIONS", "/api/token/", "", "Origin: "+other[0], "Access-Control-Request-Method: POST"); a.status != 403 {
		t.Errorf("another client's origin: %d", a.status)
	}
}

func TestOnlyTheLogSaysWhyALoginEndpointIsUnusable(t *testing.T) {
	none, two, off := []string{}, []string{"orders", "shop"}, true
	for what, tt := range map[string]struct {
		make   func(*world)
		advice string
	}{
		"no client":     {func(w *world) { w.user("alice", "7") }, "advice: simplejwt web false"},
		"disabled":      {func(w *world) { w.withAlice().setClient("web", api.ClientChange{Disabled: &off}) }, "advice: simplejwt web true disabled"},
		"no grant":      {func(w *world) { w.withAlice().setClient("web", api.ClientChange{Grants: &none}) }, "advice: simplejwt web true"},
		"two audiences": {func(w *world) { w.withAlice().setClient("web", api.ClientChange{Audiences: &two}) }, "advice: simplejwt web true"},
	} {
		w := newWorldAt(t, testIssuer, func(c *Config) {
			c.Advice = func(u UnusableClient) string {
				if u.Client.Disabled {
					return fmt.Sprint("advice: ", u.Endpoint, " ", u.ID, " ", u.Found, " disabled")
				}
				return fmt.Sprint("advice: ", u.Endpoint, " ", u.ID, " ", u.Found)
			}
		})
		tt.make(w)
		a := w.postJSON("/api/token/", credentials("alice", alicesPassword))
		is(t, what, a, 503, `{"detail":"logins are not possible until the operator has repaired the server, see its log"}`)
		if log := w.log.String(); !strings.Contains(log, tt.advice) || !strings.Contains(log, `"level":"WARN"`) {
			t.Errorf("%s: the log says %s", what, log)
		}
		a = w.postJSON("/session/login", credentials("alice", alicesPassword))
		want, code := 503, "server_error"
		if what == "two audiences" {
			want, code = 400, "invalid_target" // the page can name an audience
		}
		refusedToken(t, what+", browser", a, want, code)
		if strings.Contains(a.body, "web") {
			t.Errorf("%s: %s", what, a.body)
		}
	}
}

func TestALoginEndpointWithoutAClientIsNotServed(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) { c.SimpleJWT.Client, c.Browser.Client = "", "" })
	for _, path := range []string{"/api/token/", "/api/token/refresh/", "/session/login", "/session/refresh", "/session/logout"} {
		if a := w.postJSON(path, "{}"); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

func TestThePrefixIsConfigurableAndChecked(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) { c.SimpleJWT.Prefix = "/auth/v1" }).withAlice()
	w.pairOf(w.postJSON("/auth/v1/token/", credentials("alice", alicesPassword)))
	if a := w.postJSON("/api/token/", "{}"); a.status != 404 {
		t.Errorf("%d", a.status)
	}
	for _, prefix := range []string{"api", "/api/", "/", "//api", "/a/../b", "/:x", "/*x", "/a b", "/a?b", "/%61", "/.x", "/~x", "/a~", "/token", "/session/v1", "/healthz"} {
		cfg := w.server.cfg
		cfg.SimpleJWT.Prefix = prefix
		if _, err := New(cfg); err == nil {
			t.Errorf("%q was accepted", prefix)
		}
	}
}

// TestTheUserNameFieldIsConfigurable: requests and errors have the field that a Django project with its
// own user model has. The browser endpoint keeps its own.
func TestTheUserNameFieldIsConfigurable(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) { c.SimpleJWT.UsernameField = "email" }).withAlice()
	w.user("a@b.example", "8")
	for body, want := range map[string]string{
		`{}`:                                    `{"email":["This field is required."],"password":["This field is required."]}`,
		`{"username":"alice","password":"x"}`:   `{"email":["This field is required."]}`,
		`{"email":" ","password":"x"}`:          `{"email":["This field may not be blank."]}`,
		`{"email":null,"password":""}`:          `{"email":["This field may not be null."],"password":["This field may not be blank."]}`,
		`{"email":[],"password":"x"}`:           `{"email":["Not a valid string."]}`,
		`{"email":"a\u0000b","password":"x"}`:   `{"email":["Null characters are not allowed."]}`,
		`{"email":"a@b.example"}`:               `{"password":["This field is required."]}`,
		`{"Email":"a@b.example","password":""}`: `{"email":["This field is required."],"password":["This field may not be blank."]}`,
	} {
		is(t, body, w.postJSON("/api/token/", body), 400, want)
	}
	fields := map[string]string{"email": " a@b.example", "password": alicesPassword, "username": "alice"}
	p := w.pairOf(w.postJSON("/api/token/", fields))
	if c := segment(t, p.Access, 1); c["sub"] != "8" {
		t.Errorf("claims %v, want the user with that address", c)
	}
	w.pairOf(w.postForm("/api/token/", "email=alice&password="+url.QueryEscape(alicesPassword)))
	is(t, "an unknown address", w.postJSON("/api/token/", map[string]string{"email": "x@y", "password": "x"}), 401, noAccount)
	if a := w.postJSON("/session/login", credentials("a@b.example", alicesPassword)); a.status != 200 {
		t.Errorf("the browser endpoint: %d %s", a.status, a.body)
	}
	for _, name := range []string{"password", "e-mail", "e.mail", "1st", "a b", " email", "a\"b", "a\\b", "é", "a\n"} {
		cfg := w.server.cfg
		cfg.SimpleJWT.UsernameField = name
		if _, err := New(cfg); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	for _, name := range []string{"", "username", "email", "phone_number", "_x", "E2"} {
		cfg := w.server.cfg
		cfg.SimpleJWT.UsernameField = name
		if _, err := New(cfg); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// R105.
func TestFaultsAtALoginEndpointHaveItsErrorFormat(t *testing.T) {
	w := newWorld(t).withAlice()
	fail := func(http.ResponseWriter, *http.Request) error { panic("something private") }
	w.server.loginRoutes(w.server.public, &w.server.simplejwt, map[string]handler{"/api/panic/": fail})
	w.server.loginRoutes(w.server.public, &w.server.browser, map[string]handler{"/session/panic": fail})
	is(t, "simplejwt", w.postJSON("/api/panic/", "{}"), 500, `{"detail":"A server error occurred."}`)
	refusedToken(t, "session", w.postJSON("/session/panic", "{}"), 500, "server_error")
	w.obtain()
}
