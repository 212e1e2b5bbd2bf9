package issuer

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/outage"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/sessionlist"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// Cases in which an honest client could lose its session, or a session that ended could come back.

// Without the algorithm no access token can be signed. The refresh fails, and the refresh token must
// stay valid.
func TestRemovingAnAlgorithmEndsNoSession(t *testing.T) {
	w := newWorld(t)
	if _, err := w.AddAudience(t.Context(), api.Audience{Name: "shop", Alg: "RS256"}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	w.web(func(c *api.NewClient) { c.Audiences, c.Scopes = []string{"shop"}, nil })
	w.user("alice", "7")
	p := w.begin("7")
	only := testKeys
	only.Algorithms = []string{"EdDSA"}
	w.restartWith(only)
	for range 2 {
		_, err := w.refresh(p.grant.Refresh)
		if _, _, ok := outage.Of(err); !ok {
			t.Fatalf("got %v", err)
		}
	}
	_, err := w.StartSession(t.Context(), SessionRequest{User: "7", Client: "web", Endpoint: LoginBrowser})
	if _, _, ok := outage.Of(err); !ok {
		t.Errorf("a login for the removed algorithm: got %v", err)
	}
	if s := p.session(); s.Generation != 0 || s.State != "live" {
		t.Errorf("the session is %+v, want a live one of generation 0", s)
	}
}

func (w *world) restartWith(keys keystore.Config) {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.openWith(keys)
}

// Two requests with the same token wait for longer than its grace and then run one after the other.
func TestARequestThatHadToWaitIsNotALateRetry(t *testing.T) {
	storagetest.SkipIfRerunning(t, "they wait because bbolt runs one function at a time")
	inBubble(t, time.Minute, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Grace = "1s" })
		a.user("alice", "7")
		p := a.begin("7")
		var wg sync.WaitGroup
		wg.Go(func() {
			a.store.Update(t.Context(), func(storage.Tx) error { time.Sleep(5 * time.Second); return nil })
		})
		time.Sleep(time.Second)
		answers := make([]refusal.Secret, 2)
		for n := range answers {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 2 * time.Second)
				g, err := a.refresh(p.grant.Refresh)
				if err != nil {
					t.Errorf("request %d: %v", n, err)
				}
				answers[n] = g.Refresh
			})
		}
		wg.Wait()
		if answers[0] != answers[1] {
			t.Error("the two requests got different successors")
		}
	})
}

// The claim exp and the clean-up use different clocks.
//
// I7.
func TestADeniedTokenStaysDeniedWhenTheWallClockStepsBack(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		asker := a.asker("api", "orders")
		a.end()
		a.aheadOfWall(90 * time.Second)
		a.start()
		p := a.begin("7")
		if err := a.Revoke(t.Context(), noSecret, refusal.Secret(p.grant.AccessToken), home); err != nil {
			t.Fatal(err)
		}
		for range 89 {
			time.Sleep(10 * time.Second)
			if got := a.introspect("api", asker, refusal.Secret(p.grant.AccessToken)); got != (Introspection{}) {
				t.Fatalf("the denied token is active again: %+v", got)
			}
		}
		time.Sleep(3 * time.Minute)
		if n := a.records("denied/"); n != 0 {
			t.Errorf("%d records are left after the token has expired", n)
		}
	})
}

// aheadOfWall writes a clock record according to which the wall clock has stepped back by d.
func (a *bubble) aheadOfWall(d time.Duration) {
	a.t.Helper()
	file, err := bolt.Open(a.path, bolt.Options{})
	if err != nil {
		a.t.Fatal(err)
	}
	defer file.Close()
	store, err := keystore.Unlock(a.t.Context(), file, testKeys.Master)
	if err != nil {
		a.t.Fatal(err)
	}
	err = store.Update(a.t.Context(), func(tx storage.Tx) error {
		raw, err := tx.Get("clock")
		if err != nil {
			return err
		}
		var clock struct { // as keystore writes it
			Highest  time.Time       `json:"highest"`
			Lag      time.Duration   `json:"lag"`
			Erasing  time.Time       `json:"erasing"`
			MaxAge   json.RawMessage `json:"max_age"`
			Hold     json.RawMessage `json:"hold"`
			Served   json.RawMessage `json:"served"`
			Manifest json.RawMessage `json:"manifest"`
		}
		if err := json.Unmarshal(raw, &clock); err != nil {
			return err
		}
		clock.Highest, clock.Erasing, clock.Lag = time.Now().Add(d), time.Now().Add(d), d
		return record.PutJSON(tx, "clock", clock)
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// A user and a client are removed and added again under the same id, all within one second, and every
// epoch is different.
func TestSessionsOfARemovedUserOrClientNeverComeBack(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		var families []*person
		for range 5 {
			a.user("alice", "7")
			time.Sleep(time.Millisecond)
			families = append(families, a.begin("7"))
			if _, err := a.LogoutUser(t.Context(), "alice", "uid:0"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			families = append(families, a.begin("7"))
			for _, p := range families[:len(families)-1] {
				_, err := a.refresh(p.grant.Refresh)
				refused(t, err, "invalid_grant")
			}
			time.Sleep(time.Millisecond)
			if err := a.RemoveUser(t.Context(), "alice", "uid:0"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Every live session is listed and counts towards the limit.
func TestALongerIdleLifetimeRevivesNoUnlistedSession(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Idle = "1s" })
		a.user("alice", "7")
		var people []*person
		for range sessionlist.Max + 1 {
			people = append(people, a.begin("7"))
		}
		time.Sleep(2 * time.Second)
		newest := a.begin("7")
		if _, err := a.SetClient(t.Context(), "web", api.ClientChange{Idle: new("24h")}, "uid:0"); err != nil {
			t.Fatal(err)
		}
		list := must[[]api.Session](t)(a.sessionsOf("alice", ""))
		live := 0
		for _, p := range append(people, newest) {
			if _, err := a.refresh(p.grant.Refresh); err == nil {
				live++
			}
		}
		if live > sessionlist.Max || live > len(list) {
			t.Errorf("%d sessions are live, %d are listed", live, len(list))
		}
	})
}

// The store has a hundred live sessions of a user who logs in again and again, and those that ended
// within the last day.
func TestSessionsEndedByTheLimitAreDeletedAfterADay(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		for range 2*sessionlist.Max + 5 {
			a.begin("7")
		}
		time.Sleep(keepEvicted + time.Minute)
		if n := a.records("family/"); n != sessionlist.Max {
			t.Errorf("%d records of families are left, want %d", n, sessionlist.Max)
		}
	})
}

// The records of a family, a user and a session list are damaged.
func TestDamagedRecordsDoNotStopTheCleanUp(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Idle = "1h" })
		a.user("alice", "7")
		a.user("bob", "8")
		a.user("carol", "9")
		broken := a.begin("7").session().ID
		for range 20 {
			a.begin("7")
		}
		a.begin("8")
		a.begin("9")
		err := a.store.Update(t.Context(), func(tx storage.Tx) error {
			return errors.Join(
				tx.Put("family/"+broken, []byte("broken")), tx.Put(userKey("8"), []byte("{")), tx.Put(sessionlist.Key("9", "web"), []byte("odd")),
			)
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if n := a.records("family/"); n != 3 {
			t.Errorf("%d records are left, want the three with damage", n)
		}
	})
}

func TestVerifyTokenDoesNotRefuseBecauseOfAFault(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	err := w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(clientKey("web"), []byte("{")) })
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []refusal.Secret{p.grant.Refresh, refusal.Secret(p.grant.AccessToken)} {
		err := w.VerifyToken(t.Context(), "web", token)
		if refused := (*refusal.Refusal)(nil); err == nil || errors.As(err, &refused) {
			t.Errorf("got %v, want a fault", err)
		}
	}
}

// The client has lost the grant or a scope since the login.
func TestATokenThatWouldBeRefusedIsInactive(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read", "write")
	c, err := w.AddClient(t.Context(), api.NewClient{
		ID: "web", Grants: []string{"refresh_token"}, Audiences: []string{"orders"}, Scopes: []string{"read", "write"},
	}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	w.user("alice", "7")
	p := w.begin("7")
	for _, change := range []api.ClientChange{{Scopes: &[]string{"read"}}, {Scopes: &[]string{"read", "write"}, Grants: &[]string{}}} {
		if got := w.introspect("web", c.Secret, p.grant.Refresh); !got.Active {
			t.Error("the token is inactive before the change")
		}
		if _, err := w.SetClient(t.Context(), "web", change, "uid:0"); err != nil {
			t.Fatal(err)
		}
		if got := w.introspect("web", c.Secret, p.grant.Refresh); got != (Introspection{}) {
			t.Errorf("the introspection is %+v, want inactive", got)
		}
		if err := w.VerifyToken(t.Context(), "web", p.grant.Refresh); err == nil {
			t.Error("VerifyToken accepts the token")
		}
		if _, err := w.SetClient(t.Context(), "web", api.ClientChange{Scopes: &[]string{"read", "write"}, Grants: &[]string{"refresh_token"}}, "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFingerprintTellsAddressesApart(t *testing.T) {
	addresses := []string{"::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"}
	w := newWorld(t)
	var seen [][4]byte
	for _, text := range addresses {
		seen = append(seen, w.refreshSecrets.Fingerprint(1, netip.MustParseAddr(text)))
	}
	if seen[0] != seen[1] || seen[1] == seen[2] || seen[3] != seen[4] || seen[4] == seen[5] || slices.Contains(seen[3:], seen[0]) {
		t.Errorf("the fingerprints are %x", seen)
	}
}
