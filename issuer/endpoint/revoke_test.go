package endpoint

import (
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
	"keymill/storage"
)

func (w *world) failUpdates(fail bool) {
	w.counted.failUpdates.Store(nil)
	if fail {
		err := error(storage.ErrUnknownOutcome)
		w.counted.failUpdates.Store(&err)
	}
}

// R63.
func TestRevocationOfAnythingIs200AndEmpty(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	p := w.obtain()
	for _, token := range []string{"garbage", "kmr_garbage", "a.b.c", "é\x00", p.Refresh, p.Access, p.Refresh} {
		is(t, "public", w.ask("/revoke", token, "client_id=web"), 200, "")
		is(t, "confidential", w.ask("/revoke", token, basic("server", secret)), 200, "")
	}
	a := w.ask("/revoke", "x", "client_id=web")
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Length") != "0" {
		t.Errorf("%v", a.header)
	}
	for what, a := range map[string]answer{
		"no client":        w.ask("/revoke", "x"),
		"no secret":        w.ask("/revoke", "x", "client_id=server"),
		"wrong secret":     w.ask("/revoke", "x", basic("server", "kms_wrong")),
		"unknown client":   w.ask("/revoke", "x", basic("unknown", "kms_wrong")),
		"public, a secret": w.ask("/revoke", "x", basic("web", "kms_wrong")),
	} {
		refusedToken(t, what, a, 401, "invalid_client")
		if a.header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: no challenge", what)
		}
	}
	refusedToken(t, "no token", w.send("POST", "/revoke", "client_id=web", formHeader), 400, "invalid_request")
	refusedToken(t, "empty token", w.ask("/revoke", "", "client_id=web"), 400, "invalid_request")
	refusedToken(t, "token twice", w.ask("/revoke", "x", "client_id=web", "token=x"), 400, "invalid_request")
	refusedToken(t, "in the URL", w.send("POST", "/revoke?token=x", "client_id=web&token=x", formHeader), 400, "invalid_request")
	refusedToken(t, "JSON", w.postJSON("/revoke", `{"client_id":"web","token":"x"}`), 400, "invalid_request")
	refusedToken(t, "GET", w.send("GET", "/revoke?token=x&client_id=web", ""), 405, "invalid_request")
}

// R64.
func TestAClientCannotRevokeTokensOfAnother(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	p, mine := w.obtain(), w.familyAt("server")
	is(t, "web's refresh token", w.ask("/revoke", p.Refresh, basic("server", secret)), 200, "")
	is(t, "web's access token", w.ask("/revoke", p.Access, basic("server", secret)), 200, "")
	is(t, "server's refresh token", w.ask("/revoke", string(mine.Refresh), "client_id=web"), 200, "")
	w.token(w.rotate(p.Refresh))
	for _, access := range []string{p.Access, mine.AccessToken} {
		if a := w.ask("/introspect", access, basic("server", secret)); a.json(t)["active"] != true {
			t.Errorf("%s", a.body)
		}
	}
}

// R65.
func TestARevokedSessionCannotRefreshAndARevokedAccessTokenIsInactive(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	active := func(token string) bool {
		return w.ask("/introspect", token, basic("server", secret)).json(t)["active"] == true
	}
	p := w.obtain()
	is(t, "access", w.ask("/revoke", p.Access, "client_id=web"), 200, "")
	next := w.rotate(p.Refresh)
	if active(p.Access) || !active(w.token(next)) {
		t.Error("revoking one access token made another inactive")
	}
	is(t, "refresh", w.ask("/revoke", p.Refresh, "client_id=web"), 200, "") // an older generation revokes too
	if active(w.token(next)) {
		t.Error("an access token of the session is active")
	}
	refusedToken(t, "the successor", w.rotate(next.json(t)["refresh_token"].(string)), 400, "invalid_grant")
}

// R66.
func TestAFailingStoreIsNeverA200(t *testing.T) {
	w := newWorld(t).withAlice()
	token := w.obtain().Refresh
	w.failUpdates(true)
	a := w.ask("/revoke", token, "client_id=web")
	refusedToken(t, "revoke", a, 503, "temporarily_unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.store.Close()
	refusedToken(t, "closed", w.ask("/revoke", token, "client_id=web"), 503, "temporarily_unavailable")
	refusedToken(t, "closed", w.ask("/introspect", token, basic("billing", w.secret)), 503, "temporarily_unavailable")
}

// R67.
func TestIntrospectionAnswersOnlyAllowedClients(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	blind := w.client("blind")
	p, mine := w.obtain(), w.familyAt("server")
	for what, a := range map[string]answer{
		"no client":     w.ask("/introspect", p.Access),
		"public client": w.ask("/introspect", p.Access, "client_id=web"),
		"wrong secret":  w.ask("/introspect", p.Access, basic("server", "kms_wrong")),
		"no secret":     w.ask("/introspect", p.Access, "client_id=server"),
	} {
		refusedToken(t, what, a, 401, "invalid_client")
	}
	for what, a := range map[string]answer{
		"garbage":                   w.ask("/introspect", "garbage", basic("server", secret)),
		"another client's refresh":  w.ask("/introspect", p.Refresh, basic("server", secret)),
		"another audience's":        w.ask("/introspect", p.Access, basic("blind", blind)),
		"its own access, not asked": w.ask("/introspect", w.token(w.post("grant_type=client_credentials", basic("blind", blind))), basic("blind", blind)),
	} {
		is(t, what, a, 200, `{"active":false}`)
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", what, a.header)
		}
	}
	if m := w.ask("/introspect", p.Access, basic("server", secret)).json(t); m["active"] != true || m["sub"] != "7" || m["username"] != "alice" || m["aud"] != "orders" {
		t.Errorf("%v", m)
	}
	if m := w.ask("/introspect", string(mine.Refresh), basic("server", secret)).json(t); m["active"] != true || m["token_type"] != "refresh_token" {
		t.Errorf("%v", m)
	}
	refusedToken(t, "no token", w.send("POST", "/introspect", "", formHeader, basic("server", secret)), 400, "invalid_request")
	refusedToken(t, "in the URL", w.send("POST", "/introspect?token="+p.Access, "", formHeader, basic("server", secret)), 400, "invalid_request")
	a := w.send("GET", "/introspect?token=x", "", basic("server", secret))
	refusedToken(t, "GET", a, 405, "invalid_request")
	if a.header.Get("Allow") != "POST" {
		t.Errorf("Allow %q", a.header.Get("Allow"))
	}
}

// R68.
func TestEveryKindOfRevocationMakesATokenInactive(t *testing.T) {
	off := true
	for what, revoke := range map[string]func(w *world, p tokenPair) error{
		"token":  func(w *world, p tokenPair) error { w.ask("/revoke", p.Access, "client_id=web"); return nil },
		"family": func(w *world, p tokenPair) error { w.ask("/revoke", p.Refresh, "client_id=web"); return nil },
		"user": func(w *world, _ tokenPair) error {
			_, err := w.issuer.LogoutUser(t.Context(), "7", "uid:0")
			return err
		},
		"client": func(w *world, _ tokenPair) error { return w.issuer.RevokeClientSessions(t.Context(), "web", "uid:0") },
		"store":  func(w *world, _ tokenPair) error { return w.issuer.RevokeAllSessions(t.Context(), "uid:0") },
		"disabled client": func(w *world, _ tokenPair) error {
			_, err := w.issuer.SetClient(t.Context(), "web", api.ClientChange{Disabled: &off}, "uid:0")
			return err
		},
	} {
		w := newWorld(t).withAlice()
		secret := w.confidential("server")
		p := w.obtain()
		if err := revoke(w, p); err != nil {
			t.Fatal(err)
		}
		is(t, what, w.ask("/introspect", p.Access, basic("server", secret)), 200, `{"active":false}`)
	}
}

// R69.
func TestTheTokenTypeHintIsIgnored(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	for _, hint := range []string{"access_token", "refresh_token", "nonsense", ""} {
		p := w.obtain()
		if m := w.ask("/introspect", p.Access, basic("server", secret), "token_type_hint="+hint).json(t); m["active"] != true {
			t.Errorf("%s: %v", hint, m)
		}
		is(t, hint, w.ask("/revoke", p.Refresh, "client_id=web", "token_type_hint="+hint), 200, "")
		refusedToken(t, hint, w.rotate(p.Refresh), 400, "invalid_grant")
	}
}

// R18.
func TestWrongSecretsAreLimitedOnEveryPath(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		for n := range limit.ClientFailures {
			refusedToken(t, "failure", w.ask([]string{"/revoke", "/introspect"}[n%2], "x", basic("billing", "kms_wrong")), 401, "invalid_client")
		}
		for _, a := range []answer{w.ask("/revoke", "x", basic("billing", w.secret)), w.ask("/introspect", "x", basic("billing", w.secret)), w.post(w.good())} {
			refusedToken(t, "one more", a, 429, "temporarily_unavailable")
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
	})
}

// R18.
func TestWrongSecretsCannotLockOutAPublicClient(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		token := w.obtain().Refresh
		for range 2 * limit.ClientFailures {
			w.ask("/revoke", "x", "client_id=web", "client_secret=kms_wrong")
			w.ask("/introspect", "x", "client_id=web")
		}
		refusedToken(t, "a request with a secret", w.ask("/revoke", "x", "client_id=web", "client_secret=kms_wrong"), 429, "temporarily_unavailable")
		w.token(w.rotate(token))
		is(t, "revoke", w.ask("/revoke", token, "client_id=web"), 200, "")
	})
}
