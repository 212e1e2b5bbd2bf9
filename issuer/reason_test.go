package issuer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/audit"
)

// reasonOf returns what the operator learns about a refusal.
func reasonOf(t *testing.T, err error) *refusal.Reason {
	t.Helper()
	var r *refusal.Reason
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a reason", err)
	}
	return r
}

// R98.
func TestOnlyTheCauseOfARefusedLoginTellsWhy(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", testPassword, "")
	w.withPassword("dave", "9", "", "")
	w.withPassword("bob", "8", testPassword, "")
	if _, err := w.SetUser(t.Context(), "bob", api.UserChange{Disabled: new(true)}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	hints := map[string]bool{}
	for _, tt := range []struct {
		name     string
		password refusal.Secret
		code     string
	}{
		{"alice", "a wrong pass phrase", "wrong_password"},
		{"alice", refusal.Secret(strings.Repeat("x", 5000)), "wrong_password"},
		{"bob", testPassword, "disabled"},
		{"dave", testPassword, "no_password"},
		{"unknown", testPassword, "unknown_user"},
		{"", testPassword, "unknown_user"},
	} {
		_, err := w.login(tt.name, tt.password)
		hints[refused(t, err, "invalid_credentials")] = true
		if code := refusal.CodeOf(err); code != tt.code {
			t.Errorf("%q: the reason is %s, want %s", tt.name, code, tt.code)
		}
		if text := err.Error(); strings.Contains(text, string(tt.password)) || tt.name != "" && strings.Contains(text, tt.name) {
			t.Errorf("the text has what was typed: %s", text)
		}
	}
	if len(hints) != 1 {
		t.Errorf("clients get different hints: %v", hints)
	}
}

// Whatever ends a session, and whatever else makes a refresh, a verification or a logout fail.
func TestTheReasonOfARefusedTokenNamesUserAndSession(t *testing.T) {
	for code, change := range map[string]func(w *world) error{
		"disabled": func(w *world) error {
			_, err := w.SetUser(t.Context(), "alice", api.UserChange{Disabled: new(true)}, "uid:0")
			return err
		},
		"revoked": func(w *world) error { return w.RevokeAllSessions(t.Context(), "uid:0") },
		"client_not_allowed": func(w *world) error {
			_, err := w.SetClient(t.Context(), "web", api.ClientChange{Scopes: &[]string{"read"}}, "uid:0")
			return err
		},
		"unknown_user": func(w *world) error { return w.RemoveUser(t.Context(), "alice", "uid:0") },
	} {
		w := newWorld(t)
		w.web()
		w.user("alice", "7")
		p := w.begin("7")
		id, token := p.session().ID, p.grant.Refresh
		if err := change(w); err != nil {
			t.Fatal(err)
		}
		_, atToken := w.refresh(token)
		_, atEndpoint := w.Refresh(t.Context(), RefreshRequest{Client: "web", Token: token, From: home})
		verified := w.VerifyToken(t.Context(), "web", token)
		for what, err := range map[string]error{"/token": atToken, "a login endpoint": atEndpoint, "verification": verified} {
			if hint := refused(t, err, "invalid_grant"); hint != "the refresh token is invalid, expired or revoked" {
				t.Errorf("%s: the client gets %q", what, hint)
			}
			if r := reasonOf(t, err); r.Code != code || r.User != "7" || r.Session != id || r.Replay {
				t.Errorf("%s, %s: got %+v", code, what, r)
			}
		}
		if code == "client_not_allowed" {
			continue // access tokens keep what they have
		}
		err := w.VerifyToken(t.Context(), "web", refusal.Secret(p.grant.AccessToken))
		refused(t, err, "invalid_grant")
		if r := reasonOf(t, err); r.Code != "revoked" || r.Session != id || r.User != "7" {
			t.Errorf("%s, access token: got %+v", code, r)
		}
	}
}

func TestTheReasonOfATokenWithoutASessionSaysSo(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	gone := record.NewID(w.keys.Now())
	for _, tt := range []struct {
		token         refusal.Secret
		code, session string
	}{
		{"kmr_short", "malformed", ""},
		{forge(p.grant.Refresh), "forged", ""},
		{w.encoded(refreshtoken.Token{Secret: 1, Family: gone, Generation: 0}), "unknown_session", gone.String()},
	} {
		_, err := w.refresh(tt.token)
		if r := reasonOf(t, err); r.Code != tt.code || r.Session != tt.session || r.User != "" {
			t.Errorf("refresh: got %+v, want %s", r, tt.code)
		}
		err = w.Logout(t.Context(), RefreshRequest{Client: "web", Token: tt.token})
		if r := reasonOf(t, err); r.Code != tt.code || r.Session != tt.session {
			t.Errorf("logout: got %+v, want %s", r, tt.code)
		}
	}
	// The wrong client learns nothing and ends nothing, and the operator sees whose token it has.
	_, err := w.refresh(p.grant.Refresh, func(r *TokenRequest) { r.Client.ClientID = "absent" })
	refused(t, err, "invalid_client")
	if r := reasonOf(t, err); r.Code != "invalid_client" || r.User != "7" {
		t.Errorf("the wrong client: got %+v", r)
	}
	p.rotate()
}

// forge changes a character of a token within the alphabet.
func forge(token refusal.Secret) refusal.Secret {
	b := []byte(token)
	b[20] = map[bool]byte{true: 'B', false: 'A'}[b[20] == 'A']
	return refusal.Secret(b)
}

// The log line and the audit record have the same facts. They name the address of the login only as
// long as its audit record is there.
//
// R104.
func TestAReplaySaysWhoPresentedTheToken(t *testing.T) {
	for _, tt := range []struct {
		code       string
		from       netip.Addr // of the token that is presented; the login and all refreshes come from home
		kept       bool       // the login's audit record
		generation int        // of the token; the current one is 2
	}{
		{"replay", cafe, true, 0},
		{"replay", home, true, 0},
		{"replay", cafe, false, 0},
		{"late_retry", cafe, true, 1},
		{"rolled_back", cafe, true, 9},
	} {
		w := newWorld(t)
		w.web(func(c *api.NewClient) { c.Grace = "0s" })
		w.user("alice", "7")
		w.begin("7") // another session of the user
		p := w.begin("7")
		p.rotate()
		p.rotate()
		id := familyIDOf(t, p.session().ID)
		if w.wantAudited("session.login", 2); !tt.kept { // also puts the records into the chain
			w.forgetAudit()
		}
		token := w.encoded(refreshtoken.Token{Secret: 1, Family: id, Generation: uint32(tt.generation)})
		_, err := w.refresh(token, func(r *TokenRequest) { r.From = tt.from })
		if hint := refused(t, err, "invalid_grant"); hint != "the refresh token is invalid, expired or revoked" {
			t.Errorf("the client gets %q", hint)
		}
		want := map[string]string{
			"generation": fmt.Sprint(tt.generation), "current_generation": "2", "from_last_refresh_address": fmt.Sprint(tt.from == home),
		}
		if tt.kept {
			want["login_from"] = home.String()
		}
		r := reasonOf(t, err)
		if !r.Replay || r.Code != tt.code || r.User != "7" || r.Session != id.String() || !maps.Equal(r.Facts, want) {
			t.Errorf("%+v: the reason is %+v", tt, *r)
		}
		maps.Copy(want, map[string]string{"user": "7", "client": "web", "from": tt.from.String()})
		if got := w.lastAudited("session." + tt.code); got.Target != id.String() || !maps.Equal(got.Detail, want) {
			t.Errorf("%+v: the audit record is %+v", tt, got)
		}
		_, err = w.refresh(token)
		if r := reasonOf(t, err); r.Replay || r.Code != "revoked" {
			t.Errorf("the second time: %+v", r)
		}
	}
}

// lastAudited returns the newest record of an action.
// A hangingUp store lets the client hang up at the first View, which is the look for the login's address.
type hangingUp struct {
	storage.Store
	hangUp func()
}

func (s hangingUp) View(ctx context.Context, fn func(storage.Reader) error) error {
	s.hangUp()
	return s.Store.View(ctx, fn)
}

// A thief may hang up before the decision is written.
//
// R104.
func TestAReplayEndsTheSessionIfItsClientHangsUp(t *testing.T) {
	w := newWorld(t)
	w.web(func(c *api.NewClient) { c.Grace = "0s" })
	w.user("alice", "7")
	p := w.begin("7")
	old := p.rotate()
	p.rotate()
	ctx, hangUp := context.WithCancel(t.Context())
	usual := w.Issuer.store
	w.Issuer.store = hangingUp{usual, hangUp}
	_, err := w.Token(ctx, TokenRequest{GrantType: "refresh_token", Client: Credentials{ClientID: "web", Method: "none"}, Refresh: old})
	w.Issuer.store = usual
	refused(t, err, "invalid_grant")
	if ctx.Err() == nil {
		t.Fatal("the client did not hang up")
	}
	if s := p.session(); s.State != "revoked" {
		t.Errorf("the session is %s", s.State)
	}
	w.wantAudited("session.replay", 1)
}

func (w *world) lastAudited(action string) audit.Record {
	w.t.Helper()
	var last audit.Record
	for _, r := range w.audited() {
		if r.Action == action {
			last = r
		}
	}
	return last
}

func TestTheLastLoginIsKept(t *testing.T) {
	inBubble(t, 6*time.Hour, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Idle, c.Absolute = "1m", "10m" })
		a.user("alice", "7")
		if u := must[api.User](t)(a.User(t.Context(), "alice")); u.LastLogin != nil {
			t.Errorf("before the first login: %v", u.LastLogin)
		}
		var at time.Time
		for range 3 {
			time.Sleep(20 * time.Minute)
			at = a.keys.Now().UTC().Truncate(time.Second)
			p := a.begin("7")
			p.rotate() // a refresh is no login
		}
		time.Sleep(time.Hour)
		if n := a.records("family/"); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		a.end()
		a.start()
		if u := must[api.User](t)(a.User(t.Context(), "alice")); u.LastLogin == nil || !u.LastLogin.Equal(at) {
			t.Errorf("the last login is %v, want %v", u.LastLogin, at)
		}
	})
}

// forgetAudit deletes the records of the audit log.
func (w *world) forgetAudit() {
	w.t.Helper()
	err := w.store.Update(w.t.Context(), func(tx storage.Tx) error {
		var keys []string
		for e, err := range tx.Scan("audit/log/", "audit/log0") {
			if err != nil {
				return err
			}
			keys = append(keys, e.Key)
		}
		for _, key := range keys {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}
