package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/storage/postgres/postgrestest"
)

// A badShared is something wrong with the database of a store, and what a start says.
type badShared struct {
	name  string
	spoil func(c *cluster, p *place) (env []string) // more variables
	args  []string
	want  []string
}

func sql(statements ...string) func(*cluster, *place) []string {
	return func(c *cluster, _ *place) []string { c.postgres.SQL(c.t, c.database, statements...); return nil }
}

func badDatabases() []badShared {
	return []badShared{
		{"another issuer", sql(), []string{"--issuer", "https://other.example.com"}, []string{"last served with the issuer " + testIssuer, "--accept-new-issuer"}},
		{"another database", func(*cluster, *place) []string {
			return []string{"KEYMILL_DATABASE_ID=00112233445566778899001122334455"}
		}, nil,
			[]string{"database_id", "the store at postgres://", "hint: "}},
		{"another master key", func(_ *cluster, p *place) []string { p.writeKey("master.key", testKey("another")); return nil }, nil, []string{"master key"}},
		{"a table edited by hand", sql("UPDATE keymill.record SET v = v || 'x'::bytea WHERE k LIKE 'ring/%'"), nil, []string{"ring/", "damaged", "its tag does not fit"}},
		{"a record put back by hand", sql("DELETE FROM keymill.record WHERE k = 'issuer'"), nil, []string{"issuer", "damaged"}},
		{"an empty table", sql("DELETE FROM keymill.record"), nil, []string{"the database is empty", "keymill init"}},
		{"no such database", func(c *cluster, p *place) []string { return []string{"KEYMILL_STORE=" + p.shared + "x"} }, nil, []string{"the database does not exist", "3D000"}},
		{"an older schema", sql("UPDATE keymill.schema SET version = 1, oldest = 1"), nil, []string{"schema 1", "needs schema 2"}},
		{"a newer schema", sql("UPDATE keymill.schema SET version = 9, oldest = 9"), nil, []string{"schema 9", "newer version of Keymill"}},
		{"a missing right", func(c *cluster, p *place) []string {
			c.postgres.SQL(c.t, c.database, "REVOKE DELETE ON keymill.record FROM "+postgrestest.Role)
			return nil
		}, nil, []string{"lacks DELETE on keymill.record"}},
		{"a database that cannot be written", func(c *cluster, _ *place) []string {
			c.postgres.SQL(c.t, postgrestest.Superuser, "ALTER DATABASE "+c.database+" SET default_transaction_read_only = on")
			return nil
		}, nil, []string{"default_transaction_read_only is on"}},
		{"commits that are lost", func(c *cluster, _ *place) []string {
			c.postgres.SQL(c.t, postgrestest.Superuser, "ALTER DATABASE "+c.database+" SET synchronous_commit = off")
			return nil
		}, nil, []string{"synchronous_commit is off", "Set it to on"}},
		{"too many connections", func(c *cluster, _ *place) []string {
			c.postgres.SQL(c.t, postgrestest.Superuser, "ALTER DATABASE "+c.database+" CONNECTION LIMIT 0")
			return nil
		}, nil, []string{"too many connections", "53300"}},
		{"a wrong password", func(c *cluster, _ *place) []string {
			return []string{"KEYMILL_STORE=" + c.postgres.URL(postgrestest.Secret, c.database), "KEYMILL_STORE_PASSWORD=hunter2"}
		}, nil, []string{"refuses the password"}},
		{"a password in the URL", func(c *cluster, p *place) []string {
			return []string{"KEYMILL_STORE=" + strings.Replace(p.shared, "@", ":hunter2@", 1)}
		}, nil, []string{"KEYMILL_STORE: ", "must not contain a password"}},
		{"a certificate for another host", func(c *cluster, p *place) []string {
			return []string{"KEYMILL_STORE=" + p.shared + "?sslmode=verify-full&sslrootcert=" + c.postgres.CA}
		}, nil, []string{"certificate"}},
		{"no server there", func(c *cluster, p *place) []string {
			return []string{"KEYMILL_STORE=postgres://keymill@" + strings.TrimPrefix(closedAddress(c.t), "http://") + "/" + c.database}
		}, nil, []string{"no connection", "refused"}},
	}
}

// TestABadDatabaseIsOneClearLine: a start says what is wrong and changes nothing, and doctor finds it too.
func TestABadDatabaseIsOneClearLine(t *testing.T) {
	t.Parallel()
	for _, tt := range badDatabases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			p := c.place()
			server := p.startShared("--init")
			server.signal(syscall.SIGTERM)
			server.wait(time.Minute)
			env := append(p.env(), sharedEnv[1:]...) // without a login endpoint, whose client is missing
			env = append(env, tt.spoil(c, p)...)
			before := snapshot(t, p.data)
			_, errs, code := p.runWith(env, p.serveArgs(tt.args...)...)
			if code != 1 || !strings.HasPrefix(withoutLog(errs), "keymill: ") || strings.Count(errs, "\n") > strings.Count(errs, "level=")+2 {
				t.Errorf("code %d, %s", code, errs)
			}
			for _, want := range tt.want {
				if !strings.Contains(errs, want) {
					t.Errorf("%q is not in %s", want, errs)
				}
			}
			if after := snapshot(t, p.data); after != before {
				t.Errorf("the directory changed from\n%sto\n%s", before, after)
			}
			out, found, code := p.runWith(env, "doctor")
			if code != 1 && tt.name != "another issuer" {
				t.Errorf("doctor: code %d, %s%s", code, out, found)
			}
			if strings.Contains(errs+out+found, "hunter2") {
				t.Errorf("a password is printed: %s%s%s", errs, out, found)
			}
		})
	}
}

// withoutLog removes the lines of the log.
func withoutLog(errs string) string {
	var rest []string
	for line := range strings.Lines(errs) {
		if !strings.HasPrefix(line, "time=") {
			rest = append(rest, line)
		}
	}
	return strings.Join(rest, "")
}

// TestAServerOutlivesAnOutageOfItsDatabase: requests get 503 with Retry-After, the key set is served, and all is well
// when PostgreSQL is back. It stops in time without it.
//
// I18.
func TestAServerOutlivesAnOutageOfItsDatabase(t *testing.T) {
	t.Parallel()
	db := postgrestest.Start(t)
	c := &cluster{t: t, postgres: db, database: db.NewDatabase(t)}
	c.url = db.URL(postgrestest.Role, c.database)
	p := c.place()
	server := p.startShared("--init")
	p.withAlice(t)
	pair := server.login("alice", "correct horse battery")
	_, keys := get(server.url("/.well-known/jwks.json"))
	db.Stop(postgrestest.Immediate)

	resp, err := http.Post(server.url("/api/token/refresh/"), "application/json", strings.NewReader(`{"refresh":"`+pair.Refresh+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	if !eventually(time.Minute, func() bool { return server.ready() == http.StatusServiceUnavailable }) {
		t.Error("the server is ready without its database")
	}
	if _, now := get(server.url("/.well-known/jwks.json")); now != keys {
		t.Errorf("the key set is %q, want %q", now, keys)
	}
	if _, errs, code := p.runWith(append(p.env(), sharedEnv...), "doctor"); code != 1 {
		t.Errorf("doctor: code %d, %s", code, errs)
	}
	db.Begin(t)
	if !eventually(time.Minute, func() bool { return server.ready() == http.StatusOK }) {
		t.Fatal("the server is not ready with its database back")
	}
	if status, next := server.refresh(pair.Refresh); status != http.StatusOK || next.Access == "" {
		t.Errorf("%d to a refresh afterwards", status)
	}

	db.Stop(postgrestest.Immediate)
	server.signal(syscall.SIGTERM)
	if code := server.wait(time.Minute); code != 0 || strings.Contains(server.errs.String(), "did not stop in time") {
		t.Errorf("code %d after a stop without the database: %s", code, server.errs)
	}
	if strings.Contains(server.errs.String(), "panic") {
		t.Error("a panic is in the log")
	}
}

// TestAPasswordInAFileIsUsed by a server, and by doctor, also if only the unit of systemd names the file.
func TestAPasswordInAFileIsUsed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.postgres.SQL(t, postgrestest.Superuser, "ALTER DATABASE "+c.database+" OWNER TO "+postgrestest.Secret)
	c.url = c.postgres.URL(postgrestest.Secret, c.database)
	p := c.place()
	file := filepath.Join(p.dir, "password")
	if err := os.WriteFile(file, []byte(postgrestest.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(append(p.env(), sharedEnv[1:]...), "KEYMILL_STORE_PASSWORD_FILE="+file)
	p.startWith(env, p.serveArgs("--init")...)
	unit := append(p.unit("LoadCredential=keymill-store-password:"+file+"\nEnvironment=KEYMILL_MASTER_KEY_FILE="+filepath.Join(p.dir, "master.key")), sharedEnv[1:]...)
	for place, env := range map[string][]string{"file": env, "unit": append(unit, "KEYMILL_STORE="+c.url)} {
		if checks, code := p.diagnosisWith(env); code != 0 {
			t.Errorf("%s: code %d: %+v", place, code, checks)
		}
	}
}

// TestNoTwoServersHaveOneName: the second one ends, and a restart after a kill does not.
func TestNoTwoServersHaveOneName(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.place(), c.place()
	env := append(append(a.env(), sharedEnv...), "KEYMILL_NODE_ID=one")
	first := a.startWith(env, a.serveArgs("--init")...)
	second := append(append(b.env(), sharedEnv...), "KEYMILL_NODE_ID=one")
	if _, errs, code := b.runWith(second, b.serveArgs()...); code != 1 || !strings.Contains(errs, "KEYMILL_NODE_ID: another server of this store runs with the name one") {
		t.Errorf("code %d, %s", code, errs)
	}
	first.signal(syscall.SIGKILL)
	first.wait(time.Minute)
	b.startWith(second, b.serveArgs()...)
}
