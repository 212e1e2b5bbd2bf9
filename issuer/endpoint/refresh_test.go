package endpoint

import (
	"strings"
	"sync"
	"testing"

	"keymill/issuer/api"
)

func TestARefreshAnswersWithTheNextToken(t *testing.T) {
	w := newWorld(t).withAlice()
	first := w.obtain()
	a := w.rotate(first.Refresh)
	next, _ := a.json(t)["refresh_token"].(string)
	if a.status != 200 || !strings.HasPrefix(next, "kmr_") || next == first.Refresh || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	if c := segment(t, w.token(a), 1); c["sub"] != "7" || c["client_id"] != "web" || c["sid"] == nil {
		t.Errorf("claims %v", c)
	}
	refusedToken(t, "no token", w.post("grant_type=refresh_token&client_id=web"), 400, "invalid_request")
	refusedToken(t, "empty token", w.rotate(""), 400, "invalid_request")
	refusedToken(t, "token twice", w.rotate(next, "refresh_token="+next), 400, "invalid_request")
	refusedToken(t, "unknown client", w.post("grant_type=refresh_token&client_id=unknown&refresh_token="+next), 401, "invalid_client")
	w.token(w.rotate(next))
}

func TestAForgedRefreshTokenDoesNotReadTheStore(t *testing.T) {
	w := newWorld(t).withAlice()
	good := w.obtain().Refresh
	forged := good[:len(good)-1] + "A"
	if forged == good {
		forged = good[:len(good)-1] + "B"
	}
	for _, token := range []string{forged, "x", "kmr_", strings.Repeat("a", 5000), "a.b.c"} {
		for _, tt := range []struct {
			headers []string
			views   int64
		}{{nil, 0}, {[]string{"Origin: " + appOrigin}, 1}} {
			views, updates := w.counted.views.Load(), w.counted.updates.Load()
			form := "grant_type=refresh_token&client_id=web&refresh_token=" + token
			refusedToken(t, token, w.post(form, tt.headers...), 400, "invalid_grant")
			is(t, token, w.postJSON("/api/token/refresh/", map[string]string{"refresh": token}, tt.headers...), 401,
				`{"detail":"Token is invalid or expired","code":"token_not_valid"}`)
			if v, u := w.counted.views.Load()-views, w.counted.updates.Load()-updates; v != 2*tt.views || u != 0 {
				t.Errorf("%s %v: %d views, %d updates", token, tt.headers, v, u)
			}
		}
	}
}

// TestAnAccessTokenRefreshesNothing, of whatever subject it is and wherever it is presented.
func TestAnAccessTokenRefreshesNothing(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	cookie, _, _ := strings.Cut(w.cookieOf(w.loginByCookie()), "=")
	pair := w.obtain()
	for what, token := range map[string]string{
		"of a login": pair.Access, "of a refresh": w.token(w.rotate(pair.Refresh)), "of a service": w.token(w.post(w.good())),
		"of a confidential client": string(w.familyAt("server").AccessToken),
	} {
		refusedToken(t, what, w.rotate(token), 400, "invalid_grant")
		refusedToken(t, what, w.post("grant_type=refresh_token&refresh_token="+token, basic("server", secret)), 400, "invalid_grant")
		is(t, what, w.postJSON("/api/token/refresh/", map[string]string{"refresh": token}), 401,
			`{"detail":"Token has wrong type","code":"token_not_valid"}`)
		if a := w.send("POST", "/session/refresh", "", "Cookie: "+cookie+"="+token); a.status != 401 {
			t.Errorf("%s in the cookie: %d %s", what, a.status, a.body)
		}
	}
}

// R37.
func TestRefreshByAnotherClientIsRefused(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	token := w.obtain().Refresh
	refusedToken(t, "confidential", w.post("grant_type=refresh_token&refresh_token="+token, basic("server", secret)), 400, "invalid_grant")
	if _, err := w.issuer.AddClient(t.Context(), api.NewClient{ID: "other", Public: true, Grants: []string{"refresh_token"}}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	refusedToken(t, "public", w.post("grant_type=refresh_token&client_id=other&refresh_token="+token), 400, "invalid_grant")
	mine := string(w.familyAt("server").Refresh)
	is(t, "simplejwt", w.postJSON("/api/token/refresh/", map[string]string{"refresh": mine}), 401,
		`{"detail":"Token is invalid or expired","code":"token_not_valid"}`)
	w.token(w.rotate(token))
	w.token(w.post("grant_type=refresh_token&refresh_token="+mine, basic("server", secret)))
	refusedToken(t, "no secret", w.post("grant_type=refresh_token&client_id=server&refresh_token="+mine), 401, "invalid_client")
	w.ask("/revoke", mine, basic("server", secret))
	is(t, "simplejwt, revoked", w.postJSON("/api/token/refresh/", map[string]string{"refresh": mine}), 401, notValid)
}

// R38.
func TestAReplayEndsTheSessionAndItsAccessTokens(t *testing.T) {
	none := "0s"
	w := newWorld(t).withAlice(func(c *api.NewClient) { c.Grace = none })
	secret := w.confidential("server")
	first := w.obtain()
	second := w.rotate(first.Refresh).json(t)
	access, next := second["access_token"].(string), second["refresh_token"].(string)
	if a := w.ask("/introspect", access, basic("server", secret)); a.json(t)["active"] != true {
		t.Fatalf("before: %s", a.body)
	}
	refusedToken(t, "replay", w.rotate(first.Refresh), 400, "invalid_grant")
	refusedToken(t, "the successor", w.rotate(next), 400, "invalid_grant")
	for _, token := range []string{access, first.Access} {
		is(t, "access token", w.ask("/introspect", token, basic("server", secret)), 200, `{"active":false}`)
	}
}

// R39.
func TestANarrowedScopeAppliesToOneAccessToken(t *testing.T) {
	w := newWorld(t).withAlice()
	token := w.obtain().Refresh
	refusedToken(t, "wider", w.rotate(token, "scope=read+admin"), 400, "invalid_scope")
	narrow := w.rotate(token, "scope=read").json(t)
	if narrow["scope"] != "read" {
		t.Errorf("got %v", narrow["scope"])
	}
	if wide := w.rotate(narrow["refresh_token"].(string)).json(t); wide["scope"] != "read write" {
		t.Errorf("got %v", wide["scope"])
	}
}

// R40.
func TestLostRightsEndTheRefresh(t *testing.T) {
	off, fewer := true, []string{"read"}
	for what, take := range map[string]func(*world) error{
		"user disabled": func(w *world) error {
			_, err := w.issuer.SetUser(t.Context(), "alice", api.UserChange{Disabled: &off}, "uid:0")
			return err
		},
		"password changed": func(w *world) error {
			_, err := w.issuer.SetPassword(t.Context(), "alice", "another horse, another staple", "uid:0")
			return err
		},
		"logged out": func(w *world) error { _, err := w.issuer.LogoutUser(t.Context(), "alice", "uid:0"); return err },
		"scope removed": func(w *world) error {
			_, err := w.issuer.SetClient(t.Context(), "web", api.ClientChange{Scopes: &fewer}, "uid:0")
			return err
		},
		"sessions revoked": func(w *world) error { return w.issuer.RevokeClientSessions(t.Context(), "web", "uid:0") },
	} {
		w := newWorld(t).withAlice()
		token := w.obtain().Refresh
		if err := take(w); err != nil {
			t.Fatal(err)
		}
		refusedToken(t, what, w.rotate(token), 400, "invalid_grant")
		if a := w.postJSON("/api/token/refresh/", map[string]string{"refresh": token}); a.status != 401 || a.json(t)["code"] != "token_not_valid" {
			t.Errorf("%s at the simplejwt endpoint: %d %s", what, a.status, a.body)
		}
	}
}

// R40.
func TestADisabledClientCannotRefresh(t *testing.T) {
	w := newWorld(t).withAlice()
	token, off := w.obtain().Refresh, true
	w.setClient("web", api.ClientChange{Disabled: &off})
	refusedToken(t, "at /token", w.rotate(token), 401, "invalid_client")
	if a := w.postJSON("/api/token/refresh/", map[string]string{"refresh": token}); a.status != 503 {
		t.Errorf("at the simplejwt endpoint: %d %s", a.status, a.body)
	}
}

// I12.
func TestParallelRefreshesGetTheSameToken(t *testing.T) {
	w := newWorld(t).withAlice()
	token := w.obtain().Refresh
	answers := make([]answer, 20)
	var all sync.WaitGroup
	for n := range answers {
		all.Go(func() { answers[n] = w.rotate(token) })
	}
	all.Wait()
	for _, a := range answers {
		if a.status != 200 || a.json(t)["refresh_token"] != answers[0].json(t)["refresh_token"] {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	w.token(w.rotate(answers[0].json(t)["refresh_token"].(string)))
}

// I11.
func TestNoAnswer200WithoutACommit(t *testing.T) {
	w := newWorld(t).withAlice()
	token := w.obtain().Refresh
	cookie := w.cookieOf(w.loginByCookie())
	w.failUpdates(true)
	refusedToken(t, "token", w.rotate(token), 503, "temporarily_unavailable")
	for _, path := range []string{"/api/token/refresh/", "/api/token/blacklist/"} {
		if a := w.postJSON(path, map[string]string{"refresh": token}); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := w.postJSON("/api/token/", credentials("alice", alicesPassword)); a.status != 503 {
		t.Errorf("login: %d %s", a.status, a.body)
	}
	for _, path := range []string{"/session/refresh", "/session/logout"} {
		if a := w.send("POST", path, "", "Cookie: "+cookie); a.status != 503 || a.header.Get("Set-Cookie") != "" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	w.failUpdates(false)
	w.token(w.rotate(token))
	if a := w.send("POST", "/session/refresh", "", "Cookie: "+cookie); a.status != 200 {
		t.Errorf("the same cookie: %d %s", a.status, a.body)
	}
}

func TestTheClientsPagesMayReadRefreshAndRevocation(t *testing.T) {
	w := newWorld(t).withAlice()
	const allow = "Access-Control-Allow-Origin"
	token := w.obtain().Refresh
	for _, tt := range []struct {
		what, path, form, origin, want string
	}{
		{"refresh", "/token", "grant_type=refresh_token&client_id=web&refresh_token=" + token, appOrigin, appOrigin},
		{"invalid token", "/token", "grant_type=refresh_token&client_id=web&refresh_token=x", appOrigin, appOrigin},
		{"bad scope", "/token", "grant_type=refresh_token&client_id=web&scope=x&refresh_token=" + token, appOrigin, appOrigin},
		{"unknown origin", "/token", "grant_type=refresh_token&client_id=web&refresh_token=x", "https://evil.example", ""},
		{"no such grant", "/token", "grant_type=x&client_id=web", appOrigin, ""},
		{"unknown client", "/token", "grant_type=refresh_token&client_id=unknown&refresh_token=x", appOrigin, ""},
		{"revoke", "/revoke", "client_id=web&token=x", appOrigin, appOrigin},
		{"revoke from an unknown origin", "/revoke", "client_id=web&token=x", "https://evil.example", ""},
		{"introspect", "/introspect", "client_id=web&token=x", appOrigin, ""},
	} {
		a := w.send("POST", tt.path, tt.form, formHeader, "Origin: "+tt.origin)
		if a.header.Get(allow) != tt.want || a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", tt.what, a.status, a.header)
		}
	}
	if a := w.ask("/revoke", "x", "client_id=web", "Origin: "+appOrigin, "Origin: https://evil.example"); a.header.Get(allow) != "" {
		t.Errorf("two origins: %v", a.header)
	}
	for path, want := range map[string]int{"/revoke": 204, "/token": 204, "/introspect": 405} {
		a := w.send("OPTIONS", path, "", "Origin: "+appOrigin, "Access-Control-Request-Method: POST")
		if a.status != want || (a.header.Get(allow) == appOrigin) != (want == 204) {
			t.Errorf("preflight of %s: %d %v", path, a.status, a.header)
		}
	}
}
