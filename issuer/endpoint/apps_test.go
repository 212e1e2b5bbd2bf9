package endpoint

import (
	"strings"
	"testing"

	"keymill/issuer/api"
)

// apps are origins of web views and of browser extensions.
var apps = []string{
	"capacitor://localhost", "ionic://localhost", "tauri://localhost",
	"chrome-extension://abcdefghijklmnopabcdefghijklmnop", "moz-extension://2b1c7f6e-0d4a-4c1e-9a51-6f0e8d3c2b1a",
}

var cookiePaths = []string{"/session/login", "/session/refresh", "/session/logout"}

// list replaces the origins of client web.
func (w *world) list(origins ...string) {
	w.t.Helper()
	w.setClient("web", api.ClientChange{Origins: &origins})
}

// postCookie sends what a page of origin sends to a path of the cookie endpoint. site is its
// Sec-Fetch-Site, or "".
func (w *world) postCookie(path, origin, site, cookie string) answer {
	w.t.Helper()
	headers := []string{"Origin: " + origin, "Cookie: " + cookie}
	if site != "" {
		headers = append(headers, "Sec-Fetch-Site: "+site)
	}
	if path == "/session/login" {
		return w.loginByCookie(headers...)
	}
	return w.send("POST", path, "", headers...)
}

// refusedBySite fails unless a says why the browser would drop the cookie, in a form that the page
// can read, and changes no cookie.
func refusedBySite(t *testing.T, what, origin string, a answer) {
	t.Helper()
	refusedToken(t, what, a, 403, "access_denied")
	reason, _ := a.json(t)["error_description"].(string)
	if !strings.Contains(reason, origin) || !strings.Contains(reason, "session cookie") || !strings.Contains(reason, "simplejwt endpoint") {
		t.Errorf("%s: the reason is %q", what, reason)
	}
	if a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("%s: the page cannot read the reason: %v", what, a.header)
	}
	if a.header.Get("Set-Cookie") != "" {
		t.Errorf("%s: the answer sets a cookie", what)
	}
}

func TestAppsCannotUseTheCookie(t *testing.T) {
	w := newWorld(t).withAlice()
	cookie := w.cookieOf(w.loginByCookie())
	w.list(apps...)
	for _, app := range apps {
		for _, path := range cookiePaths {
			// Chromium sends none for an extension with a host permission.
			for _, site := range []string{"", "cross-site", "none", "same-origin", "same-site"} {
				refusedBySite(t, path+" from "+app+", "+site, app, w.postCookie(path, app, site, cookie))
			}
		}
	}
	w.cookieOf(w.send("POST", "/session/refresh", "", "Cookie: "+cookie))
	w.list(appOrigin)
	for _, app := range apps {
		if a := w.postCookie("/session/login", app, "cross-site", cookie); a.status != 403 || a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s, which the client does not list: %d %v", app, a.status, a.header)
		}
	}
}

func TestAppsUseTheOtherEndpoints(t *testing.T) {
	w := newWorld(t).withAlice()
	w.list(apps...)
	for _, app := range apps {
		headers := []string{"Origin: " + app, "Sec-Fetch-Site: cross-site"}
		for _, path := range []string{"/token", "/revoke", "/api/token/", "/api/token/refresh/", "/api/token/verify/", "/api/token/blacklist/"} {
			a := w.send("OPTIONS", path, "", append(headers, "Access-Control-Request-Method: POST")...)
			if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != app || a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("the preflight of %s for %s: %d %v", app, path, a.status, a.header)
			}
		}
		login := w.postJSON("/api/token/", credentials("alice", alicesPassword), headers...)
		pair := w.pairOf(login)
		refreshed := w.postJSON("/api/token/refresh/", map[string]string{"refresh": pair.Refresh}, headers...)
		pair = w.pairOf(refreshed)
		rotated := w.post("grant_type=refresh_token&client_id=web&refresh_token="+pair.Refresh, headers...)
		next, _ := rotated.json(t)["refresh_token"].(string)
		for what, a := range map[string]answer{
			"login": login, "refresh": refreshed, "token": rotated,
			"verify":    w.postJSON("/api/token/verify/", map[string]string{"token": next}, headers...),
			"revoke":    w.ask("/revoke", next, append(headers, "client_id=web")...),
			"blacklist": w.postJSON("/api/token/blacklist/", map[string]string{"refresh": w.obtain().Refresh}, headers...),
		} {
			if a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != app || a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s of %s: %d %v %s", what, app, a.status, a.header, a.body)
			}
		}
		if a := w.ask("/introspect", next, append(headers, "client_id=web")...); a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s can read /introspect", app)
		}
	}
}

// TestTheOriginNullIsNeverAllowed: sandboxed frames of any page and local files send it. It cannot
// be listed, also with insecure: true.
func TestTheOriginNullIsNeverAllowed(t *testing.T) {
	for _, url := range []string{testIssuer, privateIssuer} {
		w := newWorldAt(t, url).withAlice()
		for _, origin := range []string{"null", "file://", "NULL"} {
			list := []string{origin}
			if _, err := w.issuer.SetClient(t.Context(), "web", api.ClientChange{Origins: &list}, "uid:0"); !refusedAs(err, "invalid_request") {
				t.Errorf("%s: %s was listed: %v", url, origin, err)
			}
			for _, path := range preflightPaths {
				preflight := w.send("OPTIONS", path, "", "Origin: "+origin, "Access-Control-Request-Method: POST")
				posted := w.postJSON(path, credentials("alice", alicesPassword), "Origin: "+origin, "Sec-Fetch-Site: cross-site")
				if preflight.status != 403 || preflight.header.Get("Access-Control-Allow-Origin")+posted.header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s: %s may use %s: %d, %v", url, origin, path, preflight.status, posted.header)
				}
			}
		}
	}
}

// TestTheLogNamesTheOriginThatWasRefused, so that an operator can list it. The answer repeats
// nothing that was not checked.
func TestTheLogNamesTheOriginThatWasRefused(t *testing.T) {
	w := newWorld(t).withAlice()
	for _, origin := range []string{"http://localhost:5173", "https://new.example.com", "capacitor://localhost", "null"} {
		var bodies string
		for _, path := range []string{"/token", "/api/token/", "/session/login"} {
			bodies += w.send("OPTIONS", path, "", "Origin: "+origin, "Access-Control-Request-Method: POST").body
		}
		bodies += w.postJSON("/session/login", "{}", "Origin: "+origin).body
		if strings.Contains(bodies, origin) {
			t.Errorf("%s is in the answers %s", origin, bodies)
		}
		if n := strings.Count(w.log.String(), `(origin \"`+origin+`\")`); n != 4 {
			t.Errorf("%s is named %d times in\n%s", origin, n, w.log)
		}
	}
}
