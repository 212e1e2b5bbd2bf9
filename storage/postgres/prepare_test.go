package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"keymill/storage"
	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// TestStatementsAreSentAgainWhenAPoolerMixesThemUp: one that passes for the server gives the next transaction a
// connection on which nothing was prepared, or one on which the same statements were.
func TestStatementsAreSentAgainWhenAPoolerMixesThemUp(t *testing.T) {
	c := postgrestest.Shared(t)
	for name, mix := range map[string]func(*testing.T, *Engine){"they are gone": forgetStatements, "they are there": prepareBefore} {
		for _, inSnapshot := range []bool{false, true} {
			e := openWith(t, Config{URL: c.URL(postgrestest.Role, c.NewDatabase(t)), Create: true})
			version := enginetest.Commit(t, e, puts("a", "1"))
			if _, err := e.Fetch(t.Context(), []string{"a"}); err != nil {
				t.Fatal(err)
			}
			mix(t, e)
			if inSnapshot {
				// It may fail: the Store begins another one.
				_ = e.Snapshot(t.Context(), func(r storage.Reader) error { _, err := r.Get("a"); return err })
				if !e.unprepared.Load() {
					t.Errorf("%s: statements are prepared after a snapshot", name)
				}
			}
			enginetest.Commit(t, e, reads("a", version), puts("a", "2"))
			if got := enginetest.Content(t, e); got != "a=2" || !e.unprepared.Load() {
				t.Errorf("%s: the table holds %q; statements are prepared: %t", name, got, !e.unprepared.Load())
			}
		}
	}
}

// TestAChangedTableFailsNoCall: after ALTER TABLE the server refuses statements that were prepared before, on each connection.
func TestAChangedTableFailsNoCall(t *testing.T) {
	c := postgrestest.Shared(t)
	database := c.NewDatabase(t)
	e := openWith(t, Config{URL: c.URL(postgrestest.Role, database), Create: true})
	version := enginetest.Commit(t, e, puts("a", "1"))
	snapshot := func() (string, error) {
		var value []byte
		err := e.Snapshot(t.Context(), func(r storage.Reader) (err error) {
			value, err = r.Get("a")
			return err
		})
		return string(value), err
	}
	for n, kind := range []string{"varchar", "text", "varchar"} {
		prepareFetches(t, e)
		c.SQL(t, database, `ALTER TABLE keymill.record ALTER COLUMN k TYPE `+kind+` COLLATE "C"`)
		if n == 1 { // the Store begins another snapshot after one that failed
			if _, err := snapshot(); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("a snapshot after the table was changed: %v", err)
			}
			if value, err := snapshot(); value != "1" || err != nil {
				t.Errorf("the next snapshot: %q, %v", value, err)
			}
		}
		if records, err := e.Fetch(t.Context(), []string{"a"}); err != nil || string(records[0].Value) != "1" {
			t.Errorf("Fetch after the table was changed to %s: %v, %v", kind, records, err)
		}
	}
	enginetest.Commit(t, e, reads("a", version), puts("a", "2"))
	if e.unprepared.Load() {
		t.Error("statements are no longer prepared")
	}
}

// prepareFetches prepares the statement of Fetch on three connections.
func prepareFetches(t *testing.T, e *Engine) {
	t.Helper()
	for range 3 {
		c, err := e.reads.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		if _, err := e.fetch(t.Context(), c, []string{"a"}); err != nil {
			t.Fatal(err)
		}
	}
}

// each calls do on an idle connection of each pool.
func each(t *testing.T, e *Engine, do func(n int, c *pgxpool.Conn) error) {
	t.Helper()
	for n, pool := range []*pgxpool.Pool{e.commits, e.reads} {
		idle := pool.AcquireAllIdle(context.Background())
		if len(idle) == 0 {
			t.Fatal("no connection is idle")
		}
		for _, c := range idle {
			if err := do(n, c); err != nil {
				t.Fatal(err)
			}
			c.Release()
		}
	}
}

func forgetStatements(t *testing.T, e *Engine) {
	each(t, e, func(_ int, c *pgxpool.Conn) error { _, err := c.Exec(t.Context(), "DEALLOCATE ALL"); return err })
}

// prepareBefore prepares other statements under the same names on new connections.
func prepareBefore(t *testing.T, e *Engine) {
	var names [2][]string // by pool
	each(t, e, func(n int, c *pgxpool.Conn) error {
		rows, _ := c.Query(t.Context(), "SELECT name FROM pg_catalog.pg_prepared_statements")
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		names[n] = append(names[n], found...)
		return err
	})
	e.reset()
	for n, pool := range []*pgxpool.Pool{e.commits, e.reads} {
		c, err := pool.Acquire(t.Context())
		if err != nil || len(names[n]) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names[n] {
			if _, err := c.Exec(t.Context(), "PREPARE "+name+" AS SELECT 1"); err != nil {
				t.Fatal(err)
			}
		}
		c.Release()
	}
}
