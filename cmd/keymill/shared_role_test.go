package main

import (
	"regexp"
	"strings"
	"testing"

	"keymill/storage/postgres/postgrestest"
)

// TestARoleThatMayCreateNothingServes: the owner of the database runs what migrate --print prints, grants what its last
// lines say, and the role needs each of these rights and no other.
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
	// Without this, everyone may run the functions.
	c.postgres.SQL(t, c.database, "SET ROLE "+postgrestest.Role+"; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	printed := p.must(nil, "migrate", "--print")
	c.postgres.SQL(t, c.database, "SET ROLE "+postgrestest.Role+";"+printed)
	rights := printedRights(t, printed)
	for _, right := range rights {
		c.postgres.SQL(t, c.database, "GRANT "+right+" TO "+guest)
	}
	p.must(nil, "init", "--data", p.data, "--issuer", testIssuer)
	for _, right := range rights {
		c.postgres.SQL(t, c.database, "REVOKE "+right+" FROM "+guest)
		_, errs, code := p.runWith(append(p.env(), sharedEnv...), p.serveArgs()...)
		if code != 1 || strings.Count(errs, "\n") > 2 || !strings.Contains(errs, "keymill migrate --print") {
			t.Errorf("serve without %s: code %d, %s", right, code, errs)
		}
		c.postgres.SQL(t, c.database, "GRANT "+right+" TO "+guest)
	}
	server := p.startShared()
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

// printedRights returns the rights that the last lines of migrate --print name, each alone: "SELECT ON keymill.schema".
func printedRights(t *testing.T, printed string) (rights []string) {
	t.Helper()
	for _, grant := range regexp.MustCompile(`(?m)^--\s+GRANT (.*) ON (SCHEMA |FUNCTION |)(.*) TO its_role;$`).FindAllStringSubmatch(printed, -1) {
		for _, right := range strings.Split(grant[1], ", ") {
			for _, object := range strings.Split(grant[3], ", ") {
				rights = append(rights, right+" ON "+grant[2]+object)
			}
		}
	}
	if len(rights) != 12 {
		t.Fatalf("rights %q", rights)
	}
	return rights
}
