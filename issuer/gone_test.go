package issuer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/due"
	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
)

// again removes a confidential client, adds it again and returns its secret.
func (a *bubble) again(id string) refusal.Secret {
	a.t.Helper()
	if err := a.RemoveClient(a.t.Context(), id, "uid:0"); err != nil {
		a.t.Fatal(err)
	}
	return a.service(id, "orders")
}

// tokenOf returns an access token that the client gets at this moment.
func (a *bubble) tokenOf(id string, secret refusal.Secret) refusal.Secret {
	a.t.Helper()
	return refusal.Secret(must[Grant](a.t)(a.token(id, secret)).AccessToken)
}

// earlierToken returns an access token that the client got before the wall clock was set back by step:
// its iat is that far ahead.
func (a *bubble) earlierToken(id string, step time.Duration) refusal.Secret {
	a.t.Helper()
	now := a.keys.WallTime().Add(step)
	payload := plainPayload(claim.Token{
		Issuer: testURL, Subject: id, Audience: "orders", Client: id, ID: claim.NewTokenID(),
		Issued: now.Add(-backdate).Unix(), Expires: now.Add(10 * time.Minute).Unix(),
	})
	return refusal.Secret(must[string](a.t)(a.keys.Sign(a.t.Context(), "EdDSA", jwks.TypeAccessToken, payload, now.Add(10*time.Minute))))
}

// setBack stops the server, sets its wall clock back by step and starts it again.
func (a *bubble) setBack(step time.Duration) {
	a.t.Helper()
	a.end()
	if step > 0 {
		a.aheadOfWall(step)
	}
	a.start()
}

func (a *bubble) wantActive(asker refusal.Secret, token refusal.Secret, want bool, what string) {
	a.t.Helper()
	if got := a.introspect("api", asker, token); got.Active != want {
		a.t.Errorf("%s: active is %v, want %v", what, got.Active, want)
	}
	if err := a.VerifyToken(a.t.Context(), "web", token); (err == nil) != want {
		a.t.Errorf("%s: VerifyToken says %v", what, err)
	}
}

// TestAnIDThatIsUsedAgainRevivesNoToken: a client is removed and added again under its id, at once or
// later, with a right clock or one that was set back, also over a restart.
//
// I10.
func TestAnIDThatIsUsedAgainRevivesNoToken(t *testing.T) {
	for _, tt := range []struct {
		setBack, before, between time.Duration
		restart                  bool
	}{
		{},
		{between: time.Nanosecond},
		{before: 999 * time.Millisecond},
		{between: 999 * time.Millisecond},
		{between: time.Second},
		{restart: true},
		{setBack: time.Second},
		{setBack: 119 * time.Second},
		{setBack: 119 * time.Second, between: 500 * time.Millisecond},
		{setBack: 119 * time.Second, restart: true},
		{setBack: time.Second, between: time.Minute, restart: true},
	} {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
				a.web()
				asker, secret := a.asker("api", "orders"), a.service("billing", "orders")
				a.setBack(tt.setBack)
				time.Sleep(tt.before)
				now, earlier := a.tokenOf("billing", secret), a.earlierToken("billing", tt.setBack)
				a.wantActive(asker, now, true, "before the removal")
				if err := a.RemoveClient(t.Context(), "billing", "uid:0"); err != nil {
					t.Fatal(err)
				}
				if tt.restart {
					a.end()
					a.start()
				}
				time.Sleep(tt.between)
				secret = a.service("billing", "orders")
				a.wantActive(asker, now, false, "a token of the removed client")
				time.Sleep(tt.setBack + time.Second) // the wall clock has caught up
				a.wantActive(asker, now, false, "the same later")
				a.wantActive(asker, earlier, false, "a token from before the clock was set back")
				a.wantActive(asker, a.tokenOf("billing", secret), true, "a token of the new client")
			})
		})
	}
}

// TestAnIDThatIsUsedAgainRevivesNoSession: the same for users, whose tokens name a session. All happens
// in one instant.
//
// I10.
func TestAnIDThatIsUsedAgainRevivesNoSession(t *testing.T) {
	remove := map[string]func(*bubble) error{
		"user": func(a *bubble) error {
			if err := a.RemoveUser(a.t.Context(), "alice", "uid:0"); err != nil {
				return err
			}
			_, err := a.AddUser(a.t.Context(), api.NewUser{ID: "7", Name: "alice"}, "uid:0")
			return err
		},
		"imported user": func(a *bubble) error {
			if err := a.RemoveUser(a.t.Context(), "id:7", "uid:0"); err != nil {
				return err
			}
			_, err := a.ImportUser(a.t.Context(), api.ImportedUser{ID: "7", Name: "bob"}, "uid:0")
			return err
		},
		"user, twice": func(a *bubble) error {
			for range 2 {
				if err := a.RemoveUser(a.t.Context(), "id:7", "uid:0"); err != nil {
					return err
				}
				a.user("alice", "7")
			}
			return nil
		},
		"user, as a client in between": func(a *bubble) error {
			if err := a.RemoveUser(a.t.Context(), "7", "uid:0"); err != nil {
				return err
			}
			a.service("7", "orders")
			err := a.RemoveClient(a.t.Context(), "7", "uid:0")
			a.user("alice", "7")
			return err
		},
		"client": func(a *bubble) error {
			err := a.RemoveClient(a.t.Context(), "web", "uid:0")
			a.publicClient("web")
			return err
		},
		"client, as a user in between": func(a *bubble) error {
			err := a.RemoveClient(a.t.Context(), "web", "uid:0")
			a.user("walter", "web")
			if err := a.RemoveUser(a.t.Context(), "id:web", "uid:0"); err != nil {
				return err
			}
			a.publicClient("web")
			return err
		},
	}
	for name, again := range remove {
		for _, step := range []time.Duration{0, 119 * time.Second} {
			t.Run(name+" "+step.String(), func(t *testing.T) {
				inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
					a.web()
					a.user("alice", "7")
					asker := a.asker("api", "orders")
					a.setBack(step)
					p, q := a.begin("7"), a.begin("7")
					denied := refusal.Secret(p.grant.AccessToken)
					p.rotate()
					if err := a.Revoke(t.Context(), noSecret, denied, home); err != nil {
						t.Fatal(err)
					}
					a.wantActive(asker, refusal.Secret(p.grant.AccessToken), true, "before the removal")
					if err := again(a); err != nil {
						t.Fatal(err)
					}
					check := func() {
						t.Helper()
						a.wantActive(asker, refusal.Secret(p.grant.AccessToken), false, "an access token of the session")
						a.wantActive(asker, denied, false, "a revoked access token")
						for _, token := range []refusal.Secret{p.grant.Refresh, q.grant.Refresh} {
							refused(t, a.VerifyToken(t.Context(), "web", token), "invalid_grant")
							_, err := a.refresh(token) // as the cookie of the browser endpoint does
							refused(t, err, "invalid_grant")
						}
					}
					check()
					next := a.begin("7")
					a.wantActive(asker, refusal.Secret(next.grant.AccessToken), true, "a token of a new session")
					next.rotate()
					a.end()
					a.start()
					check()
					time.Sleep(step + time.Second)
					check()
				})
			})
		}
	}
}

// publicClient adds a client as web does.
func (w *world) publicClient(id string) {
	w.t.Helper()
	_, err := w.AddClient(w.t.Context(), api.NewClient{
		ID: id, Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"orders"}, Scopes: []string{"read", "write"},
	}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestAStepOfTheClockRevivesNoRevokedToken: whatever ends the tokens of a client ends those that it got
// before the clock was set back.
//
// I7.
func TestAStepOfTheClockRevivesNoRevokedToken(t *testing.T) {
	disabled, enabled := true, false
	for name, end := range map[string]func(*bubble) error{
		"disable and enable": func(a *bubble) error {
			_, err := a.SetClient(a.t.Context(), "billing", api.ClientChange{Disabled: &disabled}, "uid:0")
			_, err2 := a.SetClient(a.t.Context(), "billing", api.ClientChange{Disabled: &enabled}, "uid:0")
			return errors.Join(err, err2)
		},
		"revoke sessions": func(a *bubble) error { return a.RevokeClientSessions(a.t.Context(), "billing", "uid:0") },
		"revoke all":      func(a *bubble) error { return a.RevokeAllSessions(a.t.Context(), "uid:0") },
	} {
		for _, step := range []time.Duration{0, time.Second, 119 * time.Second} {
			t.Run(name+" "+step.String(), func(t *testing.T) {
				inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
					a.web()
					asker, secret := a.asker("api", "orders"), a.service("billing", "orders")
					a.setBack(step)
					now, earlier := a.tokenOf("billing", secret), a.earlierToken("billing", step)
					if err := end(a); err != nil {
						t.Fatal(err)
					}
					time.Sleep(step + time.Second)
					a.wantActive(asker, now, false, "a token of the moment")
					a.wantActive(asker, earlier, false, "a token from before the clock was set back")
					a.wantActive(asker, a.tokenOf("billing", secret), true, "a later token")
				})
			})
		}
	}
}

// An afterView does something after a View.
type afterView struct {
	storage.Store
	act func()
}

func (s afterView) View(ctx context.Context, fn func(storage.Reader) error) error {
	defer s.act()
	return s.Store.View(ctx, fn)
}

// An aheadStore works ahead, and does something before the run of a View that counts.
type aheadStore struct {
	storage.Store
	act func()
}

func (s aheadStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	s.Store.View(ctx, fn)
	storage.WorkAhead(ctx)
	s.act()
	return s.Store.View(ctx, fn)
}

// A confirmingStore works ahead, and does something before it confirms what a View has read.
type confirmingStore struct {
	storage.Store
	act func()
}

func (s confirmingStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	err := s.Store.View(ctx, fn)
	storage.WorkAhead(ctx)
	s.act()
	return err
}

// TestATokenThatWaitsForItsStoreIsOfAKeyThatIsNotRevoked: the key was revoked after it had signed, and before a slow store confirmed
// the decision.
func TestATokenThatWaitsForItsStoreIsOfAKeyThatIsNotRevoked(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.withoutCleanUp() // it uses the store
		a.web()
		secret := a.service("billing", "orders")
		header := func() string {
			header, _, _ := strings.Cut(must[Grant](t)(a.token("billing", secret)).AccessToken, ".")
			return header
		}
		before, under := header(), a.Issuer.store
		a.Issuer.store = confirmingStore{under, func() {
			a.Issuer.store = under
			time.Sleep(2 * time.Second)
			for _, k := range must[[]keystore.KeyInfo](t)(a.keys.List(t.Context())) {
				if k.Stage == keystore.Active {
					must[keystore.Revocation](t)(a.keys.Revoke(t.Context(), keystore.RevokeRequest{KID: k.KID}, "test"))
				}
			}
		}}
		if slow, after := header(), header(); slow != after || slow == before {
			t.Errorf("signed with %s, want %s, and not %s", slow, after, before)
		}
	})
}

// TestATokenThatWasSignedTooEarlyIsThrownAway: its client was removed before the store confirmed the decision.
func TestATokenThatWasSignedTooEarlyIsThrownAway(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.withoutCleanUp() // it uses the store
		a.web()
		secret := a.service("billing", "orders")
		under := a.Issuer.store
		a.Issuer.store = aheadStore{under, func() {
			a.Issuer.store = under
			if err := a.RemoveClient(t.Context(), "billing", "uid:0"); err != nil {
				t.Fatal(err)
			}
		}}
		g, err := a.token("billing", secret)
		if r, ok := errors.AsType[*refusal.Refusal](err); !ok || r.Code != "invalid_client" || g.AccessToken != "" {
			t.Errorf("got the token %q, %v", g.AccessToken, err)
		}
	})
}

// TestATokenThatWaitedForItsSignatureIsOfTheRemovedClient: it was decided before the removal and signed
// after the id was used again.
func TestATokenThatWaitedForItsSignatureIsOfTheRemovedClient(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.withoutCleanUp() // it uses the store
		a.web()
		asker, secret := a.asker("api", "orders"), a.service("billing", "orders")
		under := a.Issuer.store
		a.Issuer.store = afterView{under, func() {
			a.Issuer.store = under
			a.again("billing")
			time.Sleep(5 * time.Second)
		}}
		g := must[Grant](t)(a.token("billing", secret))
		a.wantActive(asker, refusal.Secret(g.AccessToken), false, "the token")
	})
}

// TestOnlyAnIDThatWasUsedGetsALaterEpoch: the first tokens of any other client are active at once, also
// while the wall clock is behind. The record of a removed id is deleted when no token is left.
func TestOnlyAnIDThatWasUsedGetsALaterEpoch(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		asker := a.asker("api", "orders")
		a.setBack(119 * time.Second)
		a.wantActive(asker, a.tokenOf("fresh", a.service("fresh", "orders")), true, "a token of a new client")
		if n := a.records("gone/"); n != 0 {
			t.Errorf("%d ids count as removed", n)
		}
		a.again("fresh")
		if n := a.records("gone/"); n != 0 {
			t.Errorf("%d ids count as removed although they are in use", n)
		}
		time.Sleep(12 * time.Hour)
		if err := a.RemoveClient(t.Context(), "fresh", "uid:0"); err != nil {
			t.Fatal(err)
		}
		a.user("alice", "7 / odd")
		if err := a.RemoveUser(t.Context(), "alice", "uid:0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(13 * time.Hour) // the entry of the first removal was due, and the record is of the second
		if n := a.records("gone/"); n != 2 {
			t.Errorf("%d records of removed ids, want 2", n)
		}
		time.Sleep(11*time.Hour + 3*time.Minute)
		if n, due := a.records("gone/"), a.dueOf(due.Gone); n != 0 || due != 0 {
			t.Errorf("%d records of removed ids and %d entries of the index are left", n, due)
		}
	})
}

// dueOf counts the entries of a kind in the index of the clean-up.
func (w *world) dueOf(kind string) (n int) {
	w.t.Helper()
	err := w.store.View(w.t.Context(), func(r storage.Reader) error {
		n = 0
		for e, err := range r.Scan(due.Prefix, "due0") {
			if err != nil {
				return err
			}
			if strings.Contains(e.Key, "/"+kind+"/") {
				n++
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}
