package main

import (
	"regexp"
	"strings"
	"testing"

	"keymill/storage/postgres/postgrestest"
)

// TestARoleThatMayCreateNothingServes: the owner of the database runs what migrate --print prints, grants what its last
// lines say, and the role needs no other right.
func TestARoleThatMayCreateNothingServes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	p := c.place()
	const guest = "plain_guest"
	c.postgres.SQL(t, postgrestest.Superuser, "CREATE ROLE "+guest+" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT",
		"REVOKE ALL ON DATABASE "+c.database+" FROM PUBLIC", "GRANT CONNECT ON DATABASE "+c.database+" TO "+guest)
	c.url = c.postgres.URL(guest, c.database)
	p.shared = c.url
	if _, errs, code := p.run("init", "--data", p.data, "--issuer", testIssuer); code != 1 || !strings.Contains(errs, "keymill migrate --print") {
		t.Errorf("init without tables: code %d, %s", code, errs)
	}
	printed := p.must(nil, "migrate", "--print")
	c.postgres.SQL(t, c.database, "SET ROLE "+postgrestest.Role+";"+printed)
	grants := regexp.MustCompile(`(?m)^--\s+(GRANT .*) TO its_role;$`).FindAllStringSubmatch(printed, -1)
	for n, grant := range grants {
		if _, errs, code := p.run("init", "--data", p.data, "--issuer", testIssuer); code != 1 || strings.Count(errs, "\n") > 2 {
			t.Errorf("init with %d of %d rights: code %d, %s", n, len(grants), code, errs)
		}
		c.postgres.SQL(t, c.database, grant[1]+" TO "+guest)
	}
	server := p.startShared("--init")
	p.withAlice(t)
	pair := server.login("alice", "correct horse battery")
	if status, _ := server.refresh(pair.Refresh); status != 200 {
		t.Errorf("%d to a refresh", status)
	}
	if checks, code := p.diagnosisWith(append(p.env(), sharedEnv...)); code != 0 {
		t.Errorf("doctor: code %d, %+v", code, checks)
	}
	if got := c.postgres.Value(t, c.database, "SELECT count(*) FROM pg_class WHERE relowner = '"+guest+"'::regrole"); got != "0" {
		t.Errorf("the role owns %s tables", got)
	}
}
