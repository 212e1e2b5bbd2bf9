package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// TestServersOfSchema1CannotWriteAfterAnUpgrade: they lock a key by another number. The upgrade waits for their commits, and
// ends those that wait for it.
func TestServersOfSchema1CannotWriteAfterAnUpgrade(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	url := c.URL(postgrestest.Role, name)
	exec := func(conn *pgconn.PgConn, text string) (string, error) {
		results, err := conn.Exec(t.Context(), text).ReadAll()
		if err != nil || len(results) == 0 || len(results[len(results)-1].Rows) == 0 {
			return "", err
		}
		return string(results[len(results)-1].Rows[0][0]), nil
	}
	connect := func() *pgconn.PgConn {
		conn, err := pgconn.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(t.Context()) })
		return conn
	}
	schema1 := strings.NewReplacer("commit_v2", "commit_v1", "VALUES (2, 2)", "VALUES (1, 1)", "< 2 THEN", "< 1 THEN").Replace(Schema())
	commit, later, upgrade := connect(), connect(), connect()
	if _, err := exec(commit, schema1+"; INSERT INTO keymill.node (id, epoch) VALUES ('old', 7)"); err != nil {
		t.Fatal(err)
	}
	wantIn(t, refusal(t, Config{URL: url, Create: true}), "schema 1", "needs schema 2", "keymill migrate --print")

	waiting := func(want string) {
		for c.Value(t, name, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") != want {
			time.Sleep(5 * time.Millisecond)
		}
	}
	write := func(key string) string {
		return "SELECT keymill.commit_v1('old', 7, 1, 1, false, '{5}', '{}', '{}', NULL, NULL, NULL, NULL, NULL, NULL, '{" + key + "}', '{x}', NULL)"
	}
	if _, err := exec(commit, "BEGIN; "+write("early")); err != nil {
		t.Fatal(err)
	}
	upgraded, late := make(chan error, 1), make(chan error, 1)
	go func() { _, err := exec(upgrade, Schema()); upgraded <- err }()
	waiting("1")
	go func() { _, err := exec(later, write("late")); late <- err }()
	waiting("2")
	if _, err := exec(commit, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-upgraded; err != nil {
		t.Fatal(err)
	}
	if err := <-late; !hasCode(err, codeTokenChanged) {
		t.Errorf("a commit that waited for the upgrade: %v", err)
	}
	if _, err := exec(commit, write("after")); !hasCode(err, "42883") { // undefined_function
		t.Errorf("a commit after the upgrade: %v", err)
	}
	for range 2 { // the upgrade can be run again
		if _, err := exec(upgrade, Schema()); err != nil {
			t.Fatal(err)
		}
		if got := enginetest.Content(t, openWith(t, Config{URL: url})); got != "early=x" {
			t.Errorf("the table holds %q", got)
		}
	}
}
