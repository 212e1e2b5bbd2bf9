package endpoint

import (
	"net/http"
	"strings"
	"testing"
)

// TestAnIssuerWithAPathServesEverythingBelowIt: tokens, logins and the key set, and the discovery documents at the
// places of both standards. Nothing else is found, however a path is written.
func TestAnIssuerWithAPathServesEverythingBelowIt(t *testing.T) {
	const issuer = "https://example.com/auth"
	w := newWorldAt(t, issuer).withAlice()
	host := w.base
	w.base += "/auth"
	for _, path := range []string{"/auth/.well-known/openid-configuration", "/.well-known/openid-configuration/auth"} {
		w.base = host
		m := w.send("GET", path, "").json(t)
		if m["issuer"] != issuer || m["jwks_uri"] != issuer+"/.well-known/jwks.json" || m["token_endpoint"] != issuer+"/token" ||
			m["introspection_endpoint"] != issuer+"/introspect" || m["id_token_signing_alg_values_supported"] == nil {
			t.Errorf("%s: %v", path, m)
		}
	}
	for _, path := range []string{"/.well-known/oauth-authorization-server/auth", "/auth/.well-known/oauth-authorization-server"} {
		a := w.send("GET", path, "")
		if m := a.json(t); m["issuer"] != issuer || m["revocation_endpoint"] != issuer+"/revoke" || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %v", path, m)
		}
		preflight := w.send("OPTIONS", path, "", "Origin: https://other.example", "Access-Control-Request-Method: GET")
		if post := w.send("POST", path, ""); preflight.status != 204 || post.status != 405 {
			t.Errorf("%s: %d for a preflight, %d for POST", path, preflight.status, post.status)
		}
	}
	for _, path := range []string{
		"/token", "//token", "/auth", "/auth/", "/authx/token", "/auth/auth/token", "/auth//token", "/Auth/token", "/token/auth", "/auth/../token",
		"/", "//", "/.well-known/jwks.json", "/.well-known/jwks.json/auth", "/.well-known/openid-configuration", "/.well-known/openid-configuration/auth/",
		"/.well-known/openid-configuration/other", "/.well-known/oauth-authorization-server", "/auth/.well-known/openid-configuration/auth",
		"/*", "/auth/*", "/auth%2ftoken", "/%61uth/token", "/auth/%74oken", "/auth/.well-known%2fjwks.json", "/.well-known/openid-configuration%2fauth", "/auth;/token",
		"/healthz/auth", "/api/token/", "/session/login", "/auth/admin/v1/keys", "/admin/v1/keys", "/auth%2ftoken/x",
	} {
		for _, method := range []string{"GET", "POST"} {
			if a := w.send(method, path, w.good(), formHeader); a.status != 404 || a.code(t) != "not_found" || !strings.Contains(a.body, "the paths of this server begin with /auth/") {
				t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/auth/healthz", "/auth/readyz"} {
		if a := w.send("GET", path, ""); a.status != 200 {
			t.Errorf("%s: %d", path, a.status)
		}
	}

	w.base = host + "/auth"
	a := w.post(w.good())
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.verify(w.token(a), "orders") // it expects the issuer, and reads the key set below the path
	pair := w.postJSON("/api/token/", credentials("alice", alicesPassword))
	if wrong := w.postJSON("/api/token/", credentials("alice", "wrong")); pair.status != 200 || !strings.HasPrefix(wrong.header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("simplejwt: %d, %v", pair.status, wrong.header)
	}
	for origin, status := range map[string]int{
		"https://example.com": http.StatusOK, "https://example.com/auth": 403, "https://example.com:444": 403, "https://other.example": 403,
	} {
		login := w.loginByCookie("Origin: "+origin, "Sec-Fetch-Site: same-origin")
		if login.status != status {
			t.Errorf("a page of %s: %d %s", origin, login.status, login.body)
		}
		if status == http.StatusOK {
			if next := w.send("POST", "/session/refresh", "", "Cookie: "+w.cookieOf(login), "Origin: "+origin); next.status != 200 {
				t.Errorf("refresh: %d %s", next.status, next.body)
			}
		}
	}
}
