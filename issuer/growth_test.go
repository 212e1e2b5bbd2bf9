package issuer

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"keymill/issuer/due"
	"keymill/issuer/refusal"
	"keymill/issuer/sessionlist"
	"keymill/issuer/tally"
	"keymill/storage"
	"keymill/storage/audit"
)

// recordsByKind counts all records of the store by the first part of their keys.
func (w *world) recordsByKind() map[string]int {
	w.t.Helper()
	counts := map[string]int{}
	for _, kind := range []string{"family/", "due/", "denied/", "audit/", "tally/", "sessions/", "terms/", "webhook/"} {
		counts[kind] = w.records(kind)
	}
	return counts
}

// busy lets eight devices of one user repeat what a user can do: log in, refresh, revoke the access
// token, and end the session in one of three ways.
func (w *world) busy(rounds int) {
	w.t.Helper()
	var wg sync.WaitGroup
	const devices = 8
	for device := range devices {
		wg.Go(func() {
			for round := range rounds / devices {
				p := w.begin("7")
				old := p.rotate()
				if err := w.Revoke(w.t.Context(), noSecret, refusal.Secret(p.grant.AccessToken), home); err != nil {
					w.t.Error(err)
				}
				var err error
				switch (device + round) % 3 {
				case 0:
					err = w.Logout(w.t.Context(), RefreshRequest{Client: "web", Token: p.grant.Refresh, From: home})
				case 1:
					err = w.Revoke(w.t.Context(), noSecret, old, home)
				} // or go on without an end
				if err != nil {
					w.t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestWhatAUserCanMakeTheStoreKeepIsBounded: beyond the bounds a login deletes a session that has ended,
// and audit records and denied tokens become counts.
//
// I30.
func TestWhatAUserCanMakeTheStoreKeepIsBounded(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	before := w.recordsByKind()
	const rounds = 280
	w.busy(rounds)
	half := w.recordsByKind()
	w.busy(rounds)
	after := w.recordsByKind()
	sum := func(counts map[string]int) (n int) {
		for kind := range counts {
			n += counts[kind] - before[kind]
		}
		return n
	}
	t.Logf("%d logins, refreshes and revocations leave %d records, twice as many %d: %v", rounds, sum(half), sum(after), after)
	const sessions = 2*sessionlist.Max + sessionlist.MaxEnded
	for kind, most := range map[string]int{
		"family/": sessions, "denied/": tally.Kept, "due/": sessions + tally.Kept + 3, "tally/": 1, "sessions/": 1, "terms/": 1,
		"audit/": 5*tally.Kept + 3, // login, logout, revoked, limit and token.revoke
	} {
		if n := after[kind] - before[kind]; n > most {
			t.Errorf("%d records %s, want at most %d", n, kind, most)
		}
	}
}

// exhaust counts as many events of a kind as have records of their own in an hour.
func (w *world) exhaust(of tally.Of, action string) {
	w.t.Helper()
	d := decision{now: w.keys.Now(), by: "user:" + of.User}
	for range tally.Kept / 20 {
		if err := w.store.Update(w.t.Context(), func(tx storage.Tx) error {
			d.tx = tx
			for range 20 {
				if own, err := w.auditOften(d, of, audit.Event{Action: action}); err != nil || !own {
					w.t.Errorf("an event up to the bound has no record of its own: %v", err)
				}
			}
			return nil
		}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// counted returns the sum of the counts of an action in the aggregated records.
func (w *world) counted(action, user, client string) (sum int) {
	w.t.Helper()
	page, err := audit.Read(w.t.Context(), w.store, audit.Query{Filter: audit.Filter{Action: "session.many", User: user, Client: client}, Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range page.Records {
		n, _ := strconv.Atoi(r.Detail[action])
		sum += n
	}
	return sum
}

var aliceAtWeb = tally.Of{User: "7", Client: "web"}

// TestCountedEventsAreInOneRecordAMinute: the server writes it, also after a crash before that minute is over.
//
// I19.
func TestCountedEventsAreInOneRecordAMinute(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		a.exhaust(aliceAtWeb, "session.login")
		a.exhaust(aliceAtWeb, "session.logout")
		for range 3 {
			p := a.begin("7")
			if err := a.Logout(t.Context(), RefreshRequest{Client: "web", Token: p.grant.Refresh}); err != nil {
				t.Fatal(err)
			}
		}
		a.begin("7")
		a.wantAudited("session.login", tally.Kept)
		a.crash()
		a.start()
		time.Sleep(75 * time.Second)
		a.wantAudited("session.many", 1)
		if logins, logouts := a.counted("session.login", "7", "web"), a.counted("session.logout", "7", "web"); logins != 4 || logouts != 3 {
			t.Errorf("the record says %d logins and %d logouts, want 4 and 3", logins, logouts)
		}
		time.Sleep(time.Hour) // the next hour has records of its own
		a.begin("7")
		a.wantAudited("session.login", tally.Kept+1)
		a.wantAudited("session.many", 1)
		time.Sleep(2 * time.Hour)
		if n, due := a.records("tally/"), a.dueOf(due.Tally); n != 0 || due != 0 {
			t.Errorf("%d tallies and %d entries of the index are left", n, due)
		}
	})
}

// TestAReplayIsSeenInAFlood: it ends the session and has its own record, whatever its user did before.
// Beyond 200 replays in an hour it still ends the session and is counted.
func TestAReplayIsSeenInAFlood(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		for _, action := range []string{"session.login", "token.revoke"} {
			a.exhaust(aliceAtWeb, action)
		}
		stolen := func() {
			t.Helper()
			p := a.begin("7")
			old := p.rotate()
			p.rotate()
			_, err := a.refresh(old)
			refused(t, err, "invalid_grant")
			if s := p.session(); s.State != "revoked" || s.Reason != endings[endedReplay].words {
				t.Errorf("the session is %+v", s)
			}
		}
		stolen()
		a.wantAudited("session.replay", 1)
		a.exhaust(tally.Of{User: "7", Client: "other"}, "session.replay")
		stolen()
		a.wantAudited("session.replay", 2+tally.Kept)
		for range tally.Kept - 2 {
			a.store.Update(t.Context(), func(tx storage.Tx) error {
				_, err := a.auditOften(decision{tx: tx, now: a.keys.Now()}, aliceAtWeb, audit.Event{Action: "session.replay"})
				return err
			})
		}
		stolen()
		time.Sleep(75 * time.Second)
		if n := a.counted("session.replay", "7", "web"); n != 1 {
			t.Errorf("%d replays are counted, want 1", n)
		}
	})
}

// TestRevokedTokensBeyondTheBoundAreDeniedByTheirSession: no record per token, and no token stays active.
func TestRevokedTokensBeyondTheBoundAreDeniedByTheirSession(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		asker, secret := a.asker("api", "orders"), a.service("billing", "orders")
		other := a.begin("7")
		p := a.begin("7")
		a.exhaust(aliceAtWeb, "token.revoke")
		before := a.recordsByKind()
		var old []refusal.Secret
		for range 30 {
			time.Sleep(time.Second)
			p.rotate()
			old = append(old, refusal.Secret(p.grant.AccessToken))
		}
		kept := old[20:]
		for range 2 { // the second time nothing is counted
			for _, token := range slices.Backward(old[:20]) { // the newest first
				if err := a.Revoke(t.Context(), noSecret, token, home); err != nil {
					t.Fatal(err)
				}
			}
		}
		check := func() {
			t.Helper()
			for n, token := range old {
				a.wantActive(asker, token, n >= 20, "token "+strconv.Itoa(n))
			}
		}
		check()
		a.wantActive(asker, refusal.Secret(other.grant.AccessToken), true, "a token of another session")
		a.crash()
		a.start()
		check()
		p.rotate() // the session goes on
		a.wantActive(asker, refusal.Secret(p.grant.AccessToken), true, "a token of a refresh")
		if n := a.records("denied/"); n != 0 {
			t.Errorf("%d denied tokens have a record", n)
		}
		if n := a.records("due/") - before["due/"]; n > 1 {
			t.Errorf("%d entries of the index more", n)
		}
		time.Sleep(2 * time.Minute) // the crash lost half a minute of the clock of the clean-up
		if n := a.counted("token.revoke", "7", "web"); n != 1 {
			t.Errorf("%d revocations are counted, want 1: the newest one denied the others", n)
		}
		a.wantActive(asker, kept[0], true, "a token that was not revoked")

		// A client without users has no session to note it in: each of its tokens has a record.
		service := a.tokenOf("billing", secret)
		a.exhaust(tally.Of{Client: "billing"}, "token.revoke")
		if err := a.Revoke(t.Context(), Credentials{"billing", secret, "client_secret_basic"}, service, home); err != nil {
			t.Fatal(err)
		}
		a.wantActive(asker, service, false, "a token of a service")
		time.Sleep(75 * time.Second)
		if n := a.counted("token.revoke", "", "billing"); n != 1 {
			t.Errorf("%d revocations of the service are counted, want 1", n)
		}
	})
}

// TestASessionThatIsNoLongerKeptStaysEnded: the login that deletes it opens no door.
//
// I10.
func TestASessionThatIsNoLongerKeptStaysEnded(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	asker := w.asker("api", "orders")
	var ended []*person
	for range 4 {
		p := w.begin("7")
		if err := w.Logout(t.Context(), RefreshRequest{Client: "web", Token: p.grant.Refresh}); err != nil {
			t.Fatal(err)
		}
		ended = append(ended, p)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 28 { // of the 224 sessions, 100 are live and 100 are kept
				w.begin("7")
			}
		})
	}
	wg.Wait()
	for _, p := range ended {
		if e, err := w.Explain(t.Context(), p.grant.Refresh); err != nil || e.Session != nil {
			t.Errorf("the session is still kept: %+v, %v", e, err)
		}
		_, err := w.refresh(p.grant.Refresh)
		refused(t, err, "invalid_grant")
		if got := w.introspect("api", asker, refusal.Secret(p.grant.AccessToken)); got.Active {
			t.Error("its access token is active")
		}
	}
	if n, due := w.records("family/"), w.dueOf(due.Family); n != due || n > 2*sessionlist.Max+sessionlist.MaxEnded {
		t.Errorf("%d sessions and %d entries of the index", n, due)
	}
}

// TestChangesOfAdministratorsAreNeverOnlyCounted: also while the user does something again and again.
//
// I19.
func TestChangesOfAdministratorsAreNeverOnlyCounted(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		a.exhaust(aliceAtWeb, "session.revoked")
		p, q := a.begin("7"), a.begin("7")
		if _, err := a.RevokeSession(t.Context(), p.session().ID, "uid:0"); err != nil {
			t.Fatal(err)
		}
		a.wantAudited("session.revoked", tally.Kept+1)
		if err := a.Revoke(t.Context(), noSecret, q.grant.Refresh, home); err != nil {
			t.Fatal(err)
		}
		a.wantAudited("session.revoked", tally.Kept+1)
		if _, err := a.LogoutUser(t.Context(), "alice", "uid:0"); err != nil {
			t.Fatal(err)
		}
		a.wantAudited("user.logout", 1)
	})
}
