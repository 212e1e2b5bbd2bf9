package main

import (
	"strings"
	"testing"
	"time"

	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage/postgres"
)

// TestServersOfAReplacedDatabaseEnd with one line, and write nothing to it: the store in the database was restored in another
// way than by keymill restore, which refuses a database that servers use.
//
// I14.
func TestServersOfAReplacedDatabaseEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.place(), c.place()
	servers := []*child{a.startShared("--init"), b.startShared()}
	master, err := keystore.ParseMasterKey([]byte(testKey("k")))
	if err != nil {
		t.Fatal(err)
	}
	store, err := postgres.Open(t.Context(), postgres.Config{URL: c.url})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rings, err := keystore.Open(t.Context(), store, keystore.Config{
		Algorithms: []string{keystore.RS256, keystore.EdDSA}, RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute,
		Master: master, CheckRSA: jwks.CheckRSA,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rings.Renew(t.Context(), keystore.RenewRequest{By: "test"}); err != nil {
		t.Fatal(err)
	}
	for _, server := range servers {
		code := server.wait(time.Minute)
		log := server.errs.String()
		if n := strings.Count(log, "restored from a backup while this server used it"); code != 1 || n != 1 || triesAgain(log) {
			t.Errorf("code %d, said %d times:\n%s", code, n, log)
		}
	}
	a.startShared()
}

// triesAgain reports whether a loop of a server whose store has ended says that it goes on.
func triesAgain(log string) bool {
	return strings.Contains(log, "trying again") || strings.Contains(log, "tried again") || strings.Contains(log, "no session can be checked")
}
