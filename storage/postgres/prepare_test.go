package postgres

import (
	"context"
	"testing"

	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// TestStatementsAreSentAgainWhenTheyAreGone: a pooler that passes for the server gives the next transaction a
// connection on which nothing was prepared.
func TestStatementsAreSentAgainWhenTheyAreGone(t *testing.T) {
	c := postgrestest.Shared(t)
	e := openWith(t, Config{URL: c.URL(postgrestest.Role, c.NewDatabase(t)), Create: true})
	version := enginetest.Commit(t, e, puts("a", "1"))
	var prepared int
	if err := e.commits.QueryRow(t.Context(), "SELECT count(*) FROM pg_catalog.pg_prepared_statements").Scan(&prepared); err != nil || prepared == 0 {
		t.Errorf("%d statements are prepared, %v", prepared, err)
	}
	for _, conn := range e.commits.AcquireAllIdle(context.Background()) {
		if _, err := conn.Exec(t.Context(), "DEALLOCATE ALL"); err != nil {
			t.Error(err)
		}
		conn.Release()
	}
	enginetest.Commit(t, e, reads("a", version), puts("a", "2"))
	if got := enginetest.Content(t, e); got != "a=2" || !e.unprepared.Load() {
		t.Errorf("the table holds %q; statements are prepared: %t", got, !e.unprepared.Load())
	}
}
