package endpoint

import (
	"encoding/json"
	"strings"
	"testing"

	"keymill/issuer/api"
)

// R102.
func TestPagesOfAnotherSiteAreToldWhyTheyCannotUseTheCookie(t *testing.T) {
	w := newWorld(t).withAlice()
	cookie := w.cookieOf(w.loginByCookie())
	pages := []string{
		"https://app.example.org", "https://app.example", "https://alice.github.io", "http://localhost:5173",
		"https://localhost", "http://tauri.localhost", "https://192.0.2.7",
	}
	w.list(pages...)
	for _, page := range pages {
		for _, path := range cookiePaths {
			if a := w.send("OPTIONS", path, "", "Origin: "+page, "Sec-Fetch-Site: cross-site", "Access-Control-Request-Method: POST"); a.status != 204 {
				t.Errorf("the preflight of %s for %s: %d, so that its page can read nothing", page, path, a.status)
			}
			refusedBySite(t, path+" from "+page, page, w.postCookie(path, page, "cross-site", cookie))
		}
	}
	if a := w.postCookie("/session/login", "https://evil.example", "cross-site", cookie); a.status != 403 || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a page that the client does not list: %d %v", a.status, a.header)
	}
	if n := strings.Count(w.log.String(), `"msg":"logged in"`); n != 1 {
		t.Errorf("%d logins, want the first one only", n)
	}
	w.cookieOf(w.send("POST", "/session/refresh", "", "Cookie: "+cookie)) // the session is as it was
}

// TestPagesOfTheIssuersSiteUseTheCookie: what the browser says decides. Without Sec-Fetch-Site, as
// over plain http, nothing is refused.
func TestPagesOfTheIssuersSiteUseTheCookie(t *testing.T) {
	for url, pages := range map[string][]string{
		testIssuer:              {appOrigin, "https://example.com:8443", "https://a.b.example.com"},
		"http://127.0.0.1:8420": {"http://127.0.0.1:5173", "http://127.0.0.1:3000"},
		privateIssuer:           {"http://10.0.0.5:3000", "http://10.0.0.6:3000"},
	} {
		w := newWorldAt(t, url).withAlice(func(c *api.NewClient) { c.Origins = pages })
		for _, page := range pages {
			for _, site := range []string{"", "same-site", "same-origin"} {
				cookie := w.cookieOf(w.postCookie("/session/login", page, site, ""))
				cookie = w.cookieOf(w.postCookie("/session/refresh", page, site, cookie))
				if a := w.postCookie("/session/logout", page, site, cookie); a.status != 204 {
					t.Errorf("logout of %s: %d %s", page, a.status, a.body)
				}
			}
		}
	}
}

// TestOriginsOnAnotherSiteAreWarnedAbout when they are listed, and at no other time.
func TestOriginsOnAnotherSiteAreWarnedAbout(t *testing.T) {
	w := newWorld(t)
	ask := func(status int, method, path string, body any) (c api.Client) {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		a := w.expect(status, method, "/admin/v1/"+path, string(b))
		if status != 204 && json.Unmarshal([]byte(a.body), &c) != nil {
			t.Fatalf("%s %s: %s", method, path, a.body)
		}
		return c
	}
	for origin, warned := range map[string]bool{
		appOrigin: false, "https://example.com:8443": false, testIssuer: false,
		"https://app.example": true, "https://app.example.org": true, "http://localhost:5173": true,
		"capacitor://localhost": true, "https://localhost": true,
	} {
		list, idle := []string{origin}, "2h"
		for what, c := range map[string]api.Client{
			"add": ask(201, "POST", "clients", api.NewClient{ID: "page", Grants: []string{"client_credentials"}, Audiences: []string{"orders"}, Origins: list}),
			"set": ask(200, "PATCH", "client?id=page", api.ClientChange{Origins: &list}),
		} {
			if (len(c.Warnings) == 1) != warned || warned && (!strings.Contains(c.Warnings[0], origin) || !strings.Contains(c.Warnings[0], testIssuer)) {
				t.Errorf("%s %s: %q", what, origin, c.Warnings)
			}
		}
		set := ask(200, "PATCH", "client?id=page", api.ClientChange{Idle: &idle})
		if shown := ask(200, "GET", "client?id=page", nil); len(set.Warnings)+len(shown.Warnings) != 0 {
			t.Errorf("%s: another change says %q, show says %q", origin, set.Warnings, shown.Warnings)
		}
		ask(204, "DELETE", "client?id=page", nil)
	}
	list := []string{"https://a.example.org", appOrigin, "tauri://localhost"}
	if c := ask(201, "POST", "clients", api.NewClient{ID: "page", Grants: []string{"client_credentials"}, Audiences: []string{"orders"}, Origins: list}); len(c.Warnings) != 2 {
		t.Errorf("%q", c.Warnings)
	}
	refused := w.expect(409, "POST", "/admin/v1/clients", `{"client_id":"page","origins":["https://a.example.org"]}`)
	if strings.Contains(refused.body, "warnings") {
		t.Errorf("a refusal warns: %s", refused.body)
	}
}
