package issuer

import (
	"encoding/json"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
)

var noSecret = Credentials{ClientID: "web", Method: "none"}

// The answer is the same as for an unknown token.
//
// R64.
func TestAClientCannotRevokeTheTokensOfAnother(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	secret := w.service("billing", "orders", "read")
	asker := w.asker("api", "orders")
	p := w.begin("7")
	for _, token := range []refusal.Secret{p.grant.Refresh, refusal.Secret(p.grant.AccessToken), "garbage", ""} {
		if err := w.Revoke(t.Context(), Credentials{"billing", secret, "client_secret_basic"}, token, home); err != nil {
			t.Error(err)
		}
	}
	refused(t, w.Revoke(t.Context(), Credentials{"billing", "wrong", "client_secret_basic"}, p.grant.Refresh, home), "invalid_client")
	refused(t, w.Revoke(t.Context(), Credentials{ClientID: "unknown", Method: "none"}, p.grant.Refresh, home), "invalid_client")
	if got := w.introspect("api", asker, refusal.Secret(p.grant.AccessToken)); !got.Active {
		t.Error("another client revoked the token")
	}
	p.rotate()
}

// R65.
func TestRevokeEndsTheSessionOrTheAccessToken(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	asker := w.asker("api", "orders")
	p, q := w.begin("7"), w.begin("7")
	first := q.rotate()
	q.rotate()

	if err := w.Revoke(t.Context(), noSecret, refusal.Secret(p.grant.AccessToken), home); err != nil {
		t.Fatal(err)
	}
	if got := w.introspect("api", asker, refusal.Secret(p.grant.AccessToken)); got != (Introspection{}) {
		t.Errorf("a revoked access token: %+v", got)
	}
	p.rotate()
	if got := w.introspect("api", asker, refusal.Secret(p.grant.AccessToken)); !got.Active {
		t.Error("the next access token of the session is inactive")
	}
	// Any generation ends the session. Revoking it again is not an error.
	for range 2 {
		if err := w.Revoke(t.Context(), noSecret, first, home); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.introspect("api", asker, refusal.Secret(q.grant.AccessToken)); got != (Introspection{}) {
		t.Errorf("an access token of a revoked session: %+v", got)
	}
	_, err := w.refresh(q.grant.Refresh)
	refused(t, err, "invalid_grant")
	w.wantAudited("token.revoke", 1)
	w.wantAudited("session.revoked", 1)
	w.wantAudited("session.replay", 0)
}

// R67.
func TestIntrospectionAnswersOnlyClientsThatMayAsk(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	orders, stock := w.asker("api", "orders"), w.asker("depot", "stock")
	p := w.begin("7")
	for what, token := range map[string]refusal.Secret{
		"another audience": refusal.Secret(p.grant.AccessToken), "another client's refresh token": p.grant.Refresh,
		"garbage": "garbage", "nothing": "", "three parts": "a.b.c", "a claimed audience": "e30." + "eyJhdWQiOiJzdG9jayJ9" + ".AA",
	} {
		if got := w.introspect("depot", stock, token); got != (Introspection{}) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if b, err := json.Marshal(Introspection{}); err != nil || string(b) != `{"active":false}` {
		t.Errorf("the zero Introspection is written as %s, %v", b, err)
	}
	if got := w.introspect("api", orders, refusal.Secret(p.grant.AccessToken)); !got.Active || got.Subject != "7" || got.TokenType != "Bearer" {
		t.Errorf("the introspection is %+v, want an active access token of user 7", got)
	}
	for _, shown := range []Credentials{noSecret, {"api", "wrong", "client_secret_post"}, {ClientID: "api", Method: "none"}, {}} {
		_, err := w.Introspect(t.Context(), shown, refusal.Secret(p.grant.AccessToken))
		refused(t, err, "invalid_client")
	}
}

// A replayed one is inactive.
func TestAConfidentialClientIntrospectsItsOwnRefreshTokens(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read")
	c, err := w.AddClient(t.Context(), api.NewClient{ID: "web", Grants: []string{"refresh_token"}, Audiences: []string{"orders"}, Scopes: []string{"read"}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	own := func(r *TokenRequest) { r.Client = Credentials{"web", c.Secret, "client_secret_basic"} }
	w.user("alice", "7")
	p := w.begin("7")
	first := p.grant.Refresh
	if got := w.introspect("web", c.Secret, first); !got.Active || got.TokenType != "refresh_token" || got.Username != "alice" {
		t.Errorf("the introspection is %+v, want an active refresh token of alice", got)
	}
	for range 2 {
		if p.grant, err = w.refresh(p.grant.Refresh, own); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.introspect("web", c.Secret, first); got != (Introspection{}) {
		t.Errorf("replaced twice: %+v", got)
	}
	if got := w.introspect("web", c.Secret, p.grant.Refresh); !got.Active {
		t.Error("the introspection of an old token ended the session")
	}
	// A secret is checked also where a public client needs none (R17).
	_, err = w.refresh(p.grant.Refresh)
	refused(t, err, "invalid_client")
	_, err = w.refresh(p.grant.Refresh, func(r *TokenRequest) { r.Client = Credentials{"web", "wrong", "client_secret_post"} })
	refused(t, err, "invalid_client")
}

// Each source is enough to make a token inactive, whatever the others say. Each counts for tokens of
// services too.
//
// R68.
func TestEverySourceOfRevocationCounts(t *testing.T) {
	for name, revoke := range map[string]func(w *world, p *person) error{
		"token": func(w *world, p *person) error {
			return w.Revoke(w.t.Context(), noSecret, refusal.Secret(p.grant.AccessToken), home)
		},
		"family": func(w *world, p *person) error {
			_, err := w.RevokeSession(w.t.Context(), p.session().ID, "uid:0")
			return err
		},
		"user":   func(w *world, p *person) error { _, err := w.LogoutUser(w.t.Context(), "alice", "uid:0"); return err },
		"gone":   func(w *world, p *person) error { return w.RemoveUser(w.t.Context(), "alice", "uid:0") },
		"client": func(w *world, p *person) error { return w.RevokeClientSessions(w.t.Context(), "web", "uid:0") },
		"store":  func(w *world, p *person) error { return w.RevokeAllSessions(w.t.Context(), "uid:0") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.web()
			w.user("alice", "7")
			asker := w.asker("api", "orders")
			p := w.begin("7")
			if got := w.introspect("api", asker, refusal.Secret(p.grant.AccessToken)); !got.Active {
				t.Fatal("inactive before the change")
			}
			if err := revoke(w, p); err != nil {
				t.Fatal(err)
			}
			if got := w.introspect("api", asker, refusal.Secret(p.grant.AccessToken)); got != (Introspection{}) {
				t.Errorf("the introspection is %+v, want inactive", got)
			}
		})
	}
	w := newWorld(t)
	w.audience("orders", "read")
	secret, asker := w.service("billing", "orders", "read"), w.asker("api", "orders")
	service := func() refusal.Secret { return refusal.Secret(must[Grant](t)(w.token("billing", secret)).AccessToken) }
	token := service()
	if got := w.introspect("api", asker, token); !got.Active || got.Subject != "billing" || got.Username != "" {
		t.Fatalf("the introspection is %+v, want an active token of billing", got)
	}
	if _, err := w.SetClient(t.Context(), "billing", api.ClientChange{Disabled: new(true)}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetClient(t.Context(), "billing", api.ClientChange{Disabled: new(false)}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	if got := w.introspect("api", asker, token); got != (Introspection{}) {
		t.Errorf("a token from before the client was disabled: %+v", got)
	}
}

func TestExplainSaysWhatARefreshWouldDo(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	first := p.rotate()
	second := p.rotate()
	changed := []byte(p.grant.Refresh)
	changed[20] = map[bool]byte{true: 'B', false: 'A'}[changed[20] == 'A'] // in the alphabet, so not malformed
	for _, tt := range []struct {
		token   refusal.Secret
		verdict string
		good    bool
		word    string
	}{
		{p.grant.Refresh, "current", true, "the next refresh replaces it"},
		{second, "grace", true, "still gets the current token"},
		{first, "replay", false, "replaced more than once"},
		{w.encoded(refreshtoken.Token{Secret: 1, Family: familyIDOf(t, p.session().ID), Generation: 9}), "rolled_back", false, "newer than the store"},
		{w.encoded(refreshtoken.Token{Secret: 1, Family: record.NewID(w.keys.Now()), Generation: 0}), "gone", false, "was deleted"},
		{refusal.Secret(changed), "forged", false, "MAC is wrong"},
		{refusal.Secret(p.grant.AccessToken), "malformed", false, "kmr_"},
		{"", "malformed", false, "kmr_"},
	} {
		e, err := w.Explain(t.Context(), tt.token)
		if err != nil || e.State != tt.verdict || e.Accepted != tt.good || !strings.Contains(e.Why, tt.word) {
			t.Errorf("got %+v, %v, want the verdict %s and %q", e, err, tt.verdict, tt.word)
		}
	}
	if _, err := w.SetClient(t.Context(), "web", api.ClientChange{Scopes: &[]string{"read"}}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	if e, err := w.Explain(t.Context(), p.grant.Refresh); err != nil || e.State != "refused" || e.Accepted {
		t.Errorf("got %+v, %v, want the verdict refused", e, err)
	}
	if _, err := w.LogoutUser(t.Context(), "alice", "uid:0"); err != nil {
		t.Fatal(err)
	}
	if e, err := w.Explain(t.Context(), p.grant.Refresh); err != nil || e.State != "revoked" || !strings.Contains(e.Why, "logout") {
		t.Errorf("got %+v, %v, want the verdict revoked because of a logout", e, err)
	}
}

func familyIDOf(t *testing.T, text string) familyID {
	t.Helper()
	id, ok := record.ParseID(text)
	if !ok {
		t.Fatalf("%q is not a session id", text)
	}
	return id
}

// VerifyToken takes both kinds, and Logout any generation of a refresh token.
func TestLoginEndpointsVerifyBothKindsOfTokens(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	first := p.rotate()
	for _, token := range []refusal.Secret{p.grant.Refresh, first, refusal.Secret(p.grant.AccessToken)} {
		if err := w.VerifyToken(t.Context(), "web", token); err != nil {
			t.Error(err)
		}
		refused(t, w.VerifyToken(t.Context(), "other", token), "invalid_grant")
	}
	p.rotate()
	refused(t, w.VerifyToken(t.Context(), "web", first), "invalid_grant")
	refused(t, w.VerifyToken(t.Context(), "web", "garbage"), "invalid_grant")
	refused(t, w.Logout(t.Context(), RefreshRequest{Client: "other", Token: first}), "invalid_grant")
	for range 2 {
		if err := w.Logout(t.Context(), RefreshRequest{Client: "web", Token: first, From: home}); err != nil {
			t.Error(err)
		}
	}
	refused(t, w.VerifyToken(t.Context(), "web", p.grant.Refresh), "invalid_grant")
	refused(t, w.VerifyToken(t.Context(), "web", refusal.Secret(p.grant.AccessToken)), "invalid_grant")
	w.wantAudited("session.logout", 1)
}
