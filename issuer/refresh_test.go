package issuer

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/audit"
)

// R37.
func TestRefreshByAnotherClientIsRefusedAndEndsNothing(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	_, err := w.AddClient(t.Context(), api.NewClient{ID: "other", Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"orders"}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	p := w.begin("7")
	old := p.rotate()
	p.rotate()
	for _, token := range []refusal.Secret{p.grant.Refresh, old} { // a replay by another client is no replay
		_, err := w.refresh(token, func(r *TokenRequest) { r.Client.ClientID = "other" })
		refused(t, err, "invalid_grant")
	}
	p.rotate()
}

// R38.
func TestAReplayEndsTheSessionAndItsAccessTokens(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	secret := w.asker("api", "orders")
	p := w.begin("7")
	first := p.rotate()
	p.rotate()
	if got := w.introspect("api", secret, refusal.Secret(p.grant.AccessToken)); !got.Active || got.SessionID == "" || got.Username != "alice" {
		t.Fatalf("before the replay: %+v", got)
	}
	_, err := w.refresh(first)
	refused(t, err, "invalid_grant")
	_, err = w.refresh(p.grant.Refresh)
	refused(t, err, "invalid_grant")
	if got := w.introspect("api", secret, refusal.Secret(p.grant.AccessToken)); got != (Introspection{}) {
		t.Errorf("the access token of an ended session: %+v", got)
	}
	w.wantAudited("session.replay", 1)
}

// R39.
func TestARefreshNarrowsTheScopeOfOneTokenOnly(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	for _, wide := range []string{"read write count", "admin", "read admin"} {
		_, err := w.refresh(p.grant.Refresh, func(r *TokenRequest) { r.Scope = wide })
		refused(t, err, "invalid_scope")
	}
	if g := p.session().Generation; g != 0 {
		t.Fatalf("a refused scope advanced the session to generation %d", g)
	}
	g, err := w.refresh(p.grant.Refresh, func(r *TokenRequest) { r.Scope = "read" })
	if err != nil || g.Scope != "read" {
		t.Fatalf("narrowed: %q %v", g.Scope, err)
	}
	if g, err = w.refresh(g.Refresh); err != nil || g.Scope != "read write" {
		t.Errorf("the next one: %q %v, want the scope of the login", g.Scope, err)
	}
}

// Each change makes the next refresh fail. If the change has not ended the session, a refresh works
// again once the change is undone.
//
// R40.
func TestChangesSinceTheLoginCountAtARefresh(t *testing.T) {
	yes, no := true, false
	for name, tt := range map[string]struct {
		change, undo func(w *world) error
		code         string
		revives      bool
	}{
		"user disabled": {
			func(w *world) error {
				_, err := w.SetUser(w.t.Context(), "alice", api.UserChange{Disabled: &yes}, "uid:0")
				return err
			},
			func(w *world) error {
				_, err := w.SetUser(w.t.Context(), "alice", api.UserChange{Disabled: &no}, "uid:0")
				return err
			},
			"invalid_grant", false,
		},
		"new password": {
			func(w *world) error {
				_, err := w.SetPassword(w.t.Context(), "alice", "an entirely new passphrase", "uid:0")
				return err
			},
			nil, "invalid_grant", false,
		},
		"logout": {
			func(w *world) error { _, err := w.LogoutUser(w.t.Context(), "alice", "uid:0"); return err },
			nil, "invalid_grant", false,
		},
		"user removed and added again": {
			func(w *world) error { return w.RemoveUser(w.t.Context(), "alice", "uid:0") },
			func(w *world) error { w.user("alice", "7"); return nil },
			"invalid_grant", false,
		},
		"client disabled": {
			func(w *world) error {
				_, err := w.SetClient(w.t.Context(), "web", api.ClientChange{Disabled: &yes}, "uid:0")
				return err
			},
			func(w *world) error {
				_, err := w.SetClient(w.t.Context(), "web", api.ClientChange{Disabled: &no}, "uid:0")
				return err
			},
			"invalid_client", false,
		},
		"client's sessions ended": {
			func(w *world) error { return w.RevokeClientSessions(w.t.Context(), "web", "uid:0") },
			nil, "invalid_grant", false,
		},
		"all sessions ended": {
			func(w *world) error { return w.RevokeAllSessions(w.t.Context(), "uid:0") },
			nil, "invalid_grant", false,
		},
		"scope taken from the client": {
			func(w *world) error {
				_, err := w.SetClient(w.t.Context(), "web", api.ClientChange{Scopes: &[]string{"read"}}, "uid:0")
				return err
			},
			func(w *world) error {
				_, err := w.SetClient(w.t.Context(), "web", api.ClientChange{Scopes: &[]string{"read", "write"}}, "uid:0")
				return err
			},
			"invalid_grant", true,
		},
		"grant taken from the client": {
			func(w *world) error {
				_, err := w.SetClient(w.t.Context(), "web", api.ClientChange{Grants: &[]string{}}, "uid:0")
				return err
			},
			func(w *world) error {
				_, err := w.SetClient(w.t.Context(), "web", api.ClientChange{Grants: &[]string{"refresh_token"}}, "uid:0")
				return err
			},
			"unauthorized_client", true,
		},
		"audience taken from the client": {
			func(w *world) error {
				_, err := w.SetClient(w.t.Context(), "web", api.ClientChange{Audiences: &[]string{}, Scopes: &[]string{}}, "uid:0")
				return err
			},
			func(w *world) error {
				_, err := w.SetClient(w.t.Context(), "web", api.ClientChange{Audiences: &[]string{"orders"}, Scopes: &[]string{"read", "write"}}, "uid:0")
				return err
			},
			"invalid_grant", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.web()
			w.user("alice", "7")
			p := w.begin("7")
			if err := tt.change(w); err != nil {
				t.Fatal(err)
			}
			_, err := w.refresh(p.grant.Refresh)
			refused(t, err, tt.code)
			if tt.undo == nil {
				return
			}
			if err := tt.undo(w); err != nil {
				t.Fatal(err)
			}
			_, err = w.refresh(p.grant.Refresh)
			if tt.revives && err != nil {
				t.Errorf("after the change was undone: %v", err)
			} else if !tt.revives {
				refused(t, err, "invalid_grant")
			}
		})
	}
}

// R42.
func TestRefreshTokensAreLongAndRandomAndHaveOneSpelling(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	seen := map[familyID]bool{}
	now := w.keys.Now() // all in one millisecond
	for range 1_000_000 {
		id := record.NewID(now)
		if seen[id] {
			t.Fatal("two families got the same id, and so the same tokens")
		}
		seen[id] = true
	}
	text := string(p.grant.Refresh)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "kmr_"))
	if err != nil || len(raw) != 45 || len(text) != 64 {
		t.Fatalf("%d characters, %d bytes: %v", len(text), len(raw), err)
	}
	for n := range raw {
		for bit := range 8 {
			changed := slices.Clone(raw)
			changed[n] ^= 1 << bit
			_, err := w.refresh(refusal.Secret("kmr_" + base64.RawURLEncoding.EncodeToString(changed)))
			refused(t, err, "invalid_grant")
		}
	}
	for _, other := range []string{
		"", "kmr_", "x", text + "=", text + "\n", " " + text, strings.ToUpper(text), text[4:], "kms_" + text[4:],
		text[:len(text)-1], text + "A", "kmr_" + base64.StdEncoding.EncodeToString(raw) + "=",
	} {
		if _, err := w.refreshSecrets.Decode(context.Background(), refusal.Secret(other)); err == nil {
			t.Errorf("%q is accepted as a token", other)
		}
	}
	p.rotate()
	for _, secret := range w.rawSecrets() {
		for _, form := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			shown := fmt.Sprintf(form, w.Issuer) + fmt.Sprintf(form, w.refreshSecrets) + fmt.Sprintf(form, p.grant)
			for _, how := range []string{"%x", "%s", "%d", "%v"} {
				if strings.Contains(shown, strings.Trim(fmt.Sprintf(how, secret), "[]")) || strings.Contains(shown, "kmr_") {
					t.Errorf("%s prints a secret", form)
				}
			}
		}
	}
}

// Every request gets the same successor.
//
// I9.
func TestFiftyParallelRefreshesHaveOneSuccessor(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	for round := range 10 {
		var wg sync.WaitGroup
		answers := make([]refusal.Secret, 50)
		for n := range answers {
			wg.Go(func() {
				g, err := w.refresh(p.grant.Refresh)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				answers[n] = g.Refresh
			})
		}
		wg.Wait()
		if len(slices.Compact(slices.Sorted(slices.Values(answers)))) != 1 {
			t.Fatalf("round %d: more than one successor", round)
		}
		p.grant.Refresh = answers[0]
	}
	if s := p.session(); s.Generation != 10 || s.State != "live" || s.Graced != 10*49 {
		t.Errorf("the session is %+v, want a live one of generation 10 with 490 answers in grace", s)
	}
}

func TestFiveSharedGenerationsInARowAreAuditedOnce(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	for n := range 7 {
		old := p.rotate()
		if _, err := w.refresh(old, func(r *TokenRequest) { r.From = cafe }); err != nil {
			t.Fatal(err)
		}
		if s := p.session(); s.Shared != (n >= 5) { // the rotation after the fifth knows of it
			t.Errorf("after %d generations: shared is %v", n+1, s.Shared)
		}
	}
	w.wantAudited("session.shared", 1)
	w.wantAudited("session.login", 1)
}

func TestARetryFromTheSameAddressIsNotShared(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	for range 8 {
		old := p.rotate()
		if _, err := w.refresh(old); err != nil {
			t.Fatal(err)
		}
	}
	if s := p.session(); s.Shared || s.Graced != 8 {
		t.Errorf("the session is %+v, want 8 answers in grace and not shared", s)
	}
	w.wantAudited("session.shared", 0)
}

// audited returns the newest 1,000 audit records, oldest first.
func (w *world) audited() []audit.Record {
	w.t.Helper()
	return must[api.AuditRecords](w.t)(w.Audit(w.t.Context(), audit.Query{Limit: 1000})).Records
}

// wantAudited fails the test unless the audit log has n records of an action.
func (w *world) wantAudited(action string, want int) {
	w.t.Helper()
	q := audit.Query{Filter: audit.Filter{Action: action}, Limit: 1000} // the newest 1,000 of all might miss some
	n := len(must[api.AuditRecords](w.t)(w.Audit(w.t.Context(), q)).Records)
	if n != want {
		w.t.Errorf("%d records of %s, want %d", n, action, want)
	}
}

// asker adds a confidential client that may introspect tokens of the audience.
func (w *world) asker(id, audience string) refusal.Secret {
	w.t.Helper()
	c, err := w.AddClient(w.t.Context(), api.NewClient{ID: id, Introspect: []string{audience}}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Secret
}

func (w *world) introspect(id string, secret, token refusal.Secret) Introspection {
	w.t.Helper()
	got, err := w.Introspect(w.t.Context(), Credentials{id, secret, "client_secret_basic"}, token)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// rawSecrets returns the keys of the MACs of refresh tokens.
func (w *world) rawSecrets() [][]byte {
	w.t.Helper()
	var all [][]byte
	err := w.store.View(w.t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan(refreshtoken.SecretPrefix, "refresh/secret0") {
			if err != nil {
				return err
			}
			secret, err := w.keys.Vault().Open(e.Key, e.Value)
			if err != nil {
				return err
			}
			all = append(all, secret)
		}
		return nil
	})
	if err != nil || len(all) == 0 {
		w.t.Fatalf("%d secrets, %v", len(all), err)
	}
	return all
}

// records counts the records under a prefix.
func (w *world) records(prefix string) int {
	w.t.Helper()
	n := 0
	err := w.store.View(w.t.Context(), func(r storage.Reader) error {
		n = 0
		for _, err := range r.Scan(prefix, prefix[:len(prefix)-1]+"0") {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// They stay unique in parallel answers to one token, and after a restart.
//
// I13.
func TestTokenIDsAreUnique(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	seen := map[string]bool{}
	for range 4 {
		answers := make([]Grant, 100)
		var wg sync.WaitGroup
		for n := range answers {
			wg.Go(func() {
				var err error
				if answers[n], err = w.refresh(p.grant.Refresh); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, g := range answers {
			claims, err := w.verifyOwn(refusal.Secret(g.AccessToken))
			if err != nil {
				t.Fatal(err)
			}
			if seen[claims.ID] {
				t.Fatalf("two tokens have the id %s", claims.ID)
			}
			seen[claims.ID] = true
		}
		p.grant = answers[0]
		w.restart()
	}
}
