package issuer

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"keymill/issuer/sessionlist"
)

// The limit is a hundred live sessions of one user at one client. Ended sessions do not count.
//
// I30.
func TestAtTheLimitTheLongestIdleSessionEnds(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		a.user("bob", "8")
		other := a.begin("8")
		var people []*person
		for range sessionlist.Max {
			people = append(people, a.begin("7"))
			time.Sleep(time.Second)
		}
		people[0].rotate() // so the second one is the longest idle
		extra := a.begin("7")
		if e, err := a.Explain(t.Context(), people[1].grant.Refresh); err != nil || e.Session.Reason != endings[endedByLimit].words {
			t.Fatalf("got %+v, %v, want a session that the limit ended", e, err)
		}
		for n, p := range append(people, extra, other) {
			if n != 1 {
				p.rotate()
			}
		}
		a.wantAudited("session.limit", 1)

		// Ten that were ended leave ten places free.
		for _, p := range people[10:20] {
			if err := a.Revoke(t.Context(), Credentials{ClientID: "web", Method: "none"}, p.grant.Refresh, home); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			a.begin("7")
		}
		a.wantAudited("session.limit", 1)
		a.begin("7")
		a.wantAudited("session.limit", 2)
	})
}

// I30.
func TestParallelLoginsKeepTheLimit(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 15 {
				if _, err := w.StartSession(t.Context(), SessionRequest{User: "7", Client: "web", Endpoint: LoginBrowser}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, err := w.sessionsOf("alice", "web")
	states := map[string]int{}
	for _, s := range list {
		states[s.State]++
	}
	// The list also explains the sessions that the limit has ended.
	if err != nil || states["live"] != sessionlist.Max || len(list)-states["live"] < sessionlist.MaxEnded || len(states) != 2 {
		t.Fatalf("listed: %v, %v", states, err)
	}
	w.wantAudited("session.limit", 16*15-sessionlist.Max)
}

func TestSessionListsOfIdsWithSlashesAreKeptApart(t *testing.T) {
	seen := map[string]string{}
	for _, user := range []string{"a", "a/b", "a/b/c", "1/a", "01/a", "a/"} {
		for _, client := range []string{"c", "b/c", "a/b/c", "/c"} {
			key, who := sessionlist.Key(user, client), fmt.Sprintf("%q %q", user, client)
			if other := seen[key]; other != "" {
				t.Errorf("%s and %s share %s", who, other, key)
			}
			seen[key] = who
		}
	}
	w := newWorld(t)
	w.web()
	w.user("slash", "7/web")
	w.user("alice", "7")
	w.begin("7/web")
	if list, err := w.sessionsOf("alice", ""); err != nil || len(list) != 0 {
		t.Errorf("alice has %v, %v", list, err)
	}
}
