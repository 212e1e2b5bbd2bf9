package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// impatient is a deadline for servers that refuse.
const impatient = 400 * time.Millisecond

// refusal opens an engine, which must fail, and returns the line.
func refusal(t *testing.T, c Config) string {
	t.Helper()
	if c.Deadline == 0 {
		c.Deadline = impatient
	}
	e, err := OpenEngine(context.Background(), c)
	if err == nil {
		e.Close()
		t.Fatal("it opened")
	}
	checkLine(t, err)
	return err.Error()
}

// checkLine checks what every error keeps: one line that names the role, the host and the database, and
// no password.
func checkLine(t *testing.T, err error) {
	t.Helper()
	line := err.Error()
	if strings.ContainsAny(line, "\n\t") || strings.Contains(line, "hunter2") {
		t.Errorf("the error is not one line without the password: %q", line)
	}
	if !strings.Contains(line, "PostgreSQL ") || !strings.Contains(line, "@") || !strings.Contains(line, "/test") {
		t.Errorf("the error does not name the database: %q", line)
	}
}

func wantIn(t *testing.T, line string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(line, p) {
			t.Errorf("%q does not contain %q", line, p)
		}
	}
}

// TestAServerThatCannotKeepAStoreIsRefused, with what to do. Each row changes one thing in the database.
func TestAServerThatCannotKeepAStoreIsRefused(t *testing.T) {
	c := postgrestest.Shared(t)
	for _, tt := range []struct {
		name, change string
		want         []string
	}{
		{"commits that are lost", "ALTER DATABASE %s SET synchronous_commit = off", []string{"synchronous_commit is off", "Set it to on"}},
		{"commits of this server alone", "ALTER DATABASE %s SET synchronous_commit = local", []string{"synchronous_commit is local"}},
		{"read-only", "ALTER DATABASE %s SET default_transaction_read_only = on", []string{"default_transaction_read_only is on", "Turn it off"}},
		{"another isolation", "ALTER DATABASE %s SET default_transaction_isolation = 'repeatable read'", []string{"'repeatable read'", "'read committed'"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := c.NewDatabase(t)
			c.SQL(t, postgrestest.Superuser, strings.ReplaceAll(tt.change, "%s", name))
			wantIn(t, refusal(t, Config{URL: c.URL(postgrestest.Role, name), Create: true}), tt.want...)
		})
	}
	t.Run("another encoding", func(t *testing.T) {
		name := c.NewDatabase(t, "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
		wantIn(t, refusal(t, Config{URL: c.URL(postgrestest.Role, name), Create: true}), "LATIN1", "ENCODING 'UTF8'")
	})
}

// TestLocksThatDoNothingAreFound: PostgreSQL's own are replaced, in one database, by functions like those
// of engines that only speak its protocol.
func TestLocksThatDoNothingAreFound(t *testing.T) {
	c := postgrestest.Shared(t)
	for name, result := range map[string]string{"always free": "true", "never free": "false"} {
		t.Run(name, func(t *testing.T) {
			name := c.NewDatabase(t)
			statements := []string{"SET allow_system_table_mods = on"}
			for _, f := range []string{"pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared"} {
				statements = append(statements, "ALTER FUNCTION pg_catalog."+f+"(int, int) RENAME TO "+f+"_real",
					"CREATE FUNCTION pg_catalog."+f+"(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT "+result+"'")
			}
			c.SQL(t, name, statements...)
			wantIn(t, refusal(t, Config{URL: c.URL(postgrestest.Role, name), Create: true}), "advisory locks do not lock")
		})
	}
}

// TestAnOldOrUnsafeServerIsRefused says what no server of these tests can be.
func TestAnOldOrUnsafeServerIsRefused(t *testing.T) {
	good := facts{number: 150000, version: "15.0", fsync: "on", synchronousCommit: "on", isolation: "read committed", encoding: "UTF8"}
	if p := good.problem(); p != "" {
		t.Error(p)
	}
	old := good
	old.number, old.version = 140015, "14.15"
	wantIn(t, old.problem(), "14.15", "15 or later")
	unsafe := good
	unsafe.fsync = "off"
	wantIn(t, unsafe.problem(), "fsync is off", "Turn it on")
}

// TestNothingIsCreatedUnasked: a database without tables stays as it is.
func TestNothingIsCreatedUnasked(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	_, err := OpenEngine(context.Background(), Config{URL: c.URL(postgrestest.Role, name)})
	if !errors.Is(err, ErrNoTables) {
		t.Fatal(err)
	}
	checkLine(t, err)
	if n := c.Value(t, name, "SELECT count(*) FROM pg_namespace WHERE nspname = 'keymill'"); n != "0" {
		t.Error("the schema exists")
	}
}

// TestSchemasOfOtherVersionsAreRefused, and a newer one that keeps this program's functions is not.
func TestSchemasOfOtherVersionsAreRefused(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	config := Config{URL: c.URL(postgrestest.Role, name), Create: true}
	openWith(t, config)
	set := func(version, oldest string) {
		c.SQL(t, name, "UPDATE keymill.schema SET version = "+version+", oldest = "+oldest)
	}
	set("1", "1")
	wantIn(t, refusal(t, config), "schema 1", "needs schema 2", "keymill migrate --print")
	set("4", "3")
	wantIn(t, refusal(t, config), "schema 4", "newer version of Keymill", "reads schema 2")
	set("3", "2")
	openWith(t, config)
}

// TestChangedTablesAreRefused at the start, not at the first commit.
func TestChangedTablesAreRefused(t *testing.T) {
	c := postgrestest.Shared(t)
	for _, tt := range []struct {
		change string
		want   []string
	}{
		{"DROP FUNCTION keymill.commit_v2", []string{"keymill.commit_v2 is missing", "keymill migrate --print"}},
		{`ALTER TABLE keymill.record ALTER COLUMN k TYPE text COLLATE "C.utf8"`, []string{`has not the collation "C"`}},
	} {
		name := c.NewDatabase(t)
		config := Config{URL: c.URL(postgrestest.Role, name), Create: true}
		openWith(t, config)
		c.SQL(t, name, tt.change)
		wantIn(t, refusal(t, config), tt.want...)
	}
}

// TestARoleWithoutRightsIsToldWhatItLacks: to create the tables, or to use those of another role.
func TestARoleWithoutRightsIsToldWhatItLacks(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	c.SQL(t, postgrestest.Superuser, "CREATE ROLE guest LOGIN")
	guest := Config{URL: c.URL("guest", name), Create: true}
	wantIn(t, refusal(t, guest), "may not create the tables", "keymill migrate --print")
	c.SQL(t, name, Schema()) // the operator runs it, and twice does no harm
	c.SQL(t, name, Schema())
	wantIn(t, refusal(t, guest), "42501", "migrate --print")
	c.SQL(t, name, "GRANT USAGE ON SCHEMA keymill TO guest", "GRANT SELECT ON keymill.schema TO guest", "GRANT SELECT, INSERT, UPDATE ON keymill.record, keymill.node TO guest")
	wantIn(t, refusal(t, guest), "lacks DELETE on keymill.record, DELETE on keymill.node")
	c.SQL(t, name, "GRANT DELETE ON keymill.record, keymill.node TO guest")
	e := openWith(t, guest)
	enginetest.Commit(t, e, puts("a", "1"))
	c.SQL(t, name, "REVOKE INSERT ON keymill.record FROM guest")
	_, _, err := e.Commit(context.Background(), 0, batch(puts("b", "1")))
	if !errors.Is(err, storage.ErrUnavailable) {
		t.Fatal(err)
	}
	checkLine(t, err)
	wantIn(t, err.Error(), "lacks a right", "42501")
}

// TestNodesThatStartTogetherMakeOneSchema, in an empty database.
func TestNodesThatStartTogetherMakeOneSchema(t *testing.T) {
	url := postgrestest.Shared(t).Database(t)
	engines := make([]*Engine, 3)
	var started sync.WaitGroup
	for i := range engines {
		started.Go(func() {
			e, err := OpenEngine(context.Background(), Config{URL: url, Create: true})
			if err != nil {
				t.Errorf("node %d: %v", i, err)
				return
			}
			engines[i] = e
		})
	}
	started.Wait()
	for i, e := range engines {
		if e == nil {
			continue
		}
		defer e.Close()
		enginetest.Commit(t, e, puts(string(rune('a'+i)), "1"))
	}
	if !t.Failed() && enginetest.Content(t, engines[0]) != "a=1 b=1 c=1" {
		t.Errorf("the table holds %q", enginetest.Content(t, engines[0]))
	}
}

// TestOldTokensAreRemoved, and those of a node that stops.
func TestOldTokensAreRemoved(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	e := open(t, c.URL(postgrestest.Role, name))
	enginetest.Commit(t, e, puts("a", "1"))
	const count = "SELECT count(*) FROM keymill.node"
	c.SQL(t, name, "INSERT INTO keymill.node (id, used) VALUES ('old', now() - interval '8 days'), ('new', now())")
	second := open(t, c.URL(postgrestest.Role, name))
	enginetest.Commit(t, second, puts("a", "2"))
	if n := c.Value(t, name, count); n != "3" {
		t.Errorf("%s tokens, want those of both engines and the new one", n)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if n := c.Value(t, name, count); n != "2" {
		t.Errorf("%s tokens after one node stopped", n)
	}
}

// TestACommitterWhoseTokenWasRemovedMakesAnother, as after a week without a commit.
func TestACommitterWhoseTokenWasRemovedMakesAnother(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	e := open(t, c.URL(postgrestest.Role, name))
	enginetest.Commit(t, e, puts("a", "1"))
	c.SQL(t, name, "DELETE FROM keymill.node")
	enginetest.Commit(t, e, puts("a", "2"))
	if got := enginetest.Content(t, e); got != "a=2" {
		t.Errorf("the table holds %q", got)
	}
}
