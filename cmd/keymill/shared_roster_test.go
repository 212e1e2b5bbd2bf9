package main

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"keymill/issuer/sessionlist"
	"keymill/storage/postgres/postgrestest"
)

// TestALoginOfManySessionsIsNotSlowFarAway: with a database that is 2.4 ms away, a login with a full list of sessions takes
// at most three times as long as one without sessions.
func TestALoginOfManySessionsIsNotSlowFarAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	near := c.place()
	proxy, err := postgrestest.NewProxy(c.postgres.Address(), 1200*time.Microsecond) // each way
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	server := near.startShared("--init")
	near.withAlice(t)
	var fill sync.WaitGroup
	for range 4 {
		fill.Go(func() {
			for range sessionlist.Max / 4 {
				var status int
				var body string
				var err error
				if !eventually(failsafe, func() bool { // a busy machine answers some 503, or too late
					status, body, err = tryLogin(server, "alice", "correct horse battery")
					return err == nil && status == http.StatusOK
				}) {
					t.Errorf("%d %s %v", status, body, err)
				}
			}
		})
	}
	const logins = 5
	for n := range logins {
		near.shell(t, []string{fmt.Sprintf("printf %%s 'correct horse battery' | %s user add new%d --id 1%d --password-stdin --data %s", program(t), n, n, near.data)})
	}
	fill.Wait()

	far := c.place()
	far.shared = proxy.URL(c.database)
	distant := far.startShared()
	distant.login("alice", "correct horse battery") // which opens connections
	var full, none []time.Duration
	for n := range logins {
		for name, took := range map[string]*[]time.Duration{"alice": &full, fmt.Sprintf("new%d", n): &none} {
			begun := time.Now()
			distant.login(name, "correct horse battery")
			*took = append(*took, time.Since(begun))
		}
	}
	slices.Sort(full)
	slices.Sort(none)
	t.Logf("counted: at a round trip of 2.4 ms a login with %d sessions takes %s, and one without %s", sessionlist.Max, full[logins/2].Round(time.Millisecond), none[logins/2].Round(time.Millisecond))
	if full[logins/2] > 3*none[logins/2] {
		t.Errorf("a login takes %s, and %s without sessions", full[logins/2], none[logins/2])
	}
}
