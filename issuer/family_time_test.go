package issuer

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/keystore"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// A bubble is a server in a synctest bubble, where the test controls the time. The server has a real
// store, real keys and the background loops.
type bubble struct {
	*world
	beat time.Duration // interval of the clock record; each is a real sync, so long tests have few
	stop context.CancelFunc
	done sync.WaitGroup
}

// inBubble runs f with a server that starts at midnight of the bubble.
func inBubble(t *testing.T, beat time.Duration, f func(t *testing.T, a *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		a := &bubble{world: &world{t: t, path: filepath.Join(t.TempDir(), "keymill.db")}, beat: beat}
		a.start()
		t.Cleanup(a.crash) // also after a failure: no goroutine outlives a bubble
		f(t, a)
	})
}

func (a *bubble) start() {
	a.t.Helper()
	var err error
	if a.file, err = bolt.Open(a.path, bolt.Options{}); err != nil {
		a.t.Fatal(err)
	}
	keys := testKeys
	keys.Heartbeat = a.beat
	keys.Algorithms = []string{"EdDSA"} // RSA keys would take longer than all the rest
	if _, err := keystore.Create(a.t.Context(), a.file, keys, "test", "test"); err != nil && !errors.Is(err, keystore.ErrExists) {
		a.t.Fatal(err)
	}
	if a.keys, err = keystore.Open(a.t.Context(), storagetest.RerunningIfAsked(a.file), keys); err != nil {
		a.t.Fatal(err)
	}
	a.store = a.keys.Store()
	if a.Issuer, err = Open(a.t.Context(), Config{URL: testURL, Store: a.store, Keys: a.keys}); err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	a.done.Go(func() { a.keys.Run(ctx) })
	a.done.Go(func() { a.Issuer.Run(ctx) })
}

// end stops the server as SIGTERM does.
func (a *bubble) end() {
	a.t.Helper()
	a.stop()
	a.done.Wait()
	a.keys.Close()
	if err := a.store.Close(); err != nil {
		a.t.Fatal(err)
	}
}

// crash stops the server without the last write of its clock.
func (a *bubble) crash() {
	a.stop()
	a.done.Wait()
	a.store.Close()
}

// A refresh extends the idle lifetime. Nothing extends the absolute one.
//
// R41.
func TestIdleAndAbsoluteLifetimesEndASession(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Idle, c.Absolute = "24h", "96h" })
		a.user("alice", "7")
		p := a.begin("7")
		for range 4 { // 95 hours and 20 minutes
			time.Sleep(24*time.Hour - 10*time.Minute)
			p.rotate()
		}
		if s := p.session(); s.Expires != s.AbsoluteEnd || s.AbsoluteEnd.Sub(s.Created) != 96*time.Hour {
			t.Errorf("the session is %+v, want it to end 96h after the login", s)
		}
		time.Sleep(40*time.Minute + time.Second)
		_, err := a.refresh(p.grant.Refresh)
		refused(t, err, "invalid_grant")
		p = a.begin("7")
		time.Sleep(24*time.Hour + time.Second)
		_, err = a.refresh(p.grant.Refresh)
		refused(t, err, "invalid_grant")
	})
}

func TestSessionsOfTheSimpleJWTEndpointMayIdleForADay(t *testing.T) {
	inBubble(t, 6*time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		for endpoint, live := range map[LoginEndpoint]bool{LoginSimpleJWT: false, LoginBrowser: true} {
			g, err := a.StartSession(t.Context(), SessionRequest{User: "7", Client: "web", Endpoint: endpoint})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(24*time.Hour + time.Second)
			if _, err = a.refresh(g.Refresh); (err == nil) != live {
				t.Errorf("%s: %v", endpoint, err)
			}
		}
	})
}

func TestARetryAfterTheGraceEndsTheSession(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Grace = "60s" })
		a.user("alice", "7")
		p := a.begin("7")
		old := p.rotate()
		time.Sleep(60*time.Second - time.Millisecond)
		if g, err := a.refresh(old); err != nil || g.Refresh != p.grant.Refresh {
			t.Fatalf("at the end of the grace: %v", err)
		}
		time.Sleep(time.Millisecond)
		_, err := a.refresh(old)
		refused(t, err, "invalid_grant")
		if s := p.session(); s.Reason != endings[endedLateRetry].words || s.Ended == nil {
			t.Errorf("the session is %+v, want one that a late retry ended", s)
		}
		_, err = a.refresh(p.grant.Refresh)
		refused(t, err, "invalid_grant")
	})
}

// This also holds for a downtime of hours, and after a crash.
func TestDowntimeDoesNotCountTowardsAGrace(t *testing.T) {
	for name, down := range map[string]func(*bubble){"stop": (*bubble).end, "crash": (*bubble).crash} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
				a.web(func(c *api.NewClient) { c.Grace = "60s" })
				a.user("alice", "7")
				p := a.begin("7")
				time.Sleep(time.Minute)
				old := p.rotate()
				time.Sleep(20 * time.Second)
				down(a)
				time.Sleep(3 * time.Hour)
				a.start()
				time.Sleep(39 * time.Second)
				if g, err := a.refresh(old); err != nil || g.Refresh != p.grant.Refresh {
					t.Fatalf("59 served seconds after the rotation: %v", err)
				}
				time.Sleep(2*time.Second + 5*time.Second) // a crash forgets up to a heartbeat
				_, err := a.refresh(old)
				refused(t, err, "invalid_grant")
			})
		})
	}
}

// The clock of erasures catches up within an hour after a long downtime.
func TestARetryIsNotLateBecauseTheClockCatchesUp(t *testing.T) {
	inBubble(t, time.Minute, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		p := a.begin("7")
		a.end()
		time.Sleep(48 * time.Hour)
		a.start()
		for range 90 { // in every second minute there is a rotation and its retry
			old := p.rotate()
			time.Sleep(20 * time.Second)
			if _, err := a.refresh(old); err != nil {
				t.Fatal(err)
			}
			time.Sleep(40 * time.Second)
		}
	})
}

// This holds over restarts and downtimes, while the record of the session exists and after it was
// deleted.
//
// I10.
func TestAReplayedSessionStaysEnded(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Idle, c.Absolute = "24h", "48h" })
		a.user("alice", "7")
		p := a.begin("7")
		old := p.rotate()
		p.rotate()
		_, err := a.refresh(old)
		refused(t, err, "invalid_grant")
		kept := 0
		for range 24 {
			a.crash()
			time.Sleep(time.Hour)
			a.start()
			time.Sleep(2 * time.Hour)
			_, err := a.refresh(p.grant.Refresh)
			refused(t, err, "invalid_grant")
			kept += a.records("family/")
		}
		if n := a.records("family/"); n != 0 || kept < 10 || kept > 20 {
			t.Errorf("%d records of families are left after 3 days; one was there after %d of 24 restarts, want about 16", n, kept)
		}
	})
}

func TestTheCleanUpKeepsLiveSessionsAndExplainableOnes(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Idle, c.Absolute = "4h", "120h" })
		a.user("alice", "7")
		a.user("bob", "8")
		a.user("carol", "9")
		used, revoked, forgotten := a.begin("7"), a.begin("9"), a.begin("8")
		if _, err := a.RevokeSession(t.Context(), revoked.session().ID, "uid:0"); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			time.Sleep(4*time.Hour - 10*time.Minute)
			used.rotate()
		}
		if got := [...]int{a.records("family/"), a.records("due/"), a.records("sessions/")}; got != [...]int{2, 2, 2} {
			t.Errorf("families, entries, session lists: %v, want the used and the revoked one", got)
		}
		e, err := a.Explain(t.Context(), forgotten.grant.Refresh)
		if err != nil || e.State != "gone" {
			t.Errorf("the unused session: got %+v, %v, want the verdict gone", e, err)
		}
		e, err = a.Explain(t.Context(), revoked.grant.Refresh)
		if err != nil || e.State != "revoked" {
			t.Errorf("the revoked session: got %+v, %v, want the verdict revoked", e, err)
		}
		time.Sleep(126 * time.Hour)
		for _, prefix := range []string{"family/", "due/", "sessions/"} {
			if n := a.records(prefix); n != 0 {
				t.Errorf("%d records under %s are left", n, prefix)
			}
		}
	})
}

// A session does not store lifetimes, so a change of its client applies to it at once.
func TestLifetimesOfAClientCountForItsLiveSessions(t *testing.T) {
	inBubble(t, 6*time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		p := a.begin("7")
		time.Sleep(48 * time.Hour)
		short, usual := "24h", ""
		if _, err := a.SetClient(t.Context(), "web", api.ClientChange{Idle: &short}, "uid:0"); err != nil {
			t.Fatal(err)
		}
		_, err := a.refresh(p.grant.Refresh)
		refused(t, err, "invalid_grant")
		if _, err := a.SetClient(t.Context(), "web", api.ClientChange{Idle: &usual}, "uid:0"); err != nil {
			t.Fatal(err)
		}
		p.rotate()
	})
}
