package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// sendLate sends a commit of a=VALUE with a token of the engine on a connection of its own, in a
// transaction that is still open.
func sendLate(t *testing.T, c *postgrestest.Cluster, name, value string, k token) (pgx.Tx, error) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.URL(postgrestest.Role, name)+"?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(ctx) })
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b := batch(puts("a", value))
	_, locks := locksOf(b)
	args := append([]any{k.id, k.epoch, k.seq, randomNumber(), false, locks}, comparison(b)...)
	_, err = tx.Exec(ctx, commitStatement, append(args, changesOf(b)...)...)
	return tx, err
}

// TestACommitThatArrivesLateIsRefused, after its committer has learned that it was not written.
func TestACommitThatArrivesLateIsRefused(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	e := open(t, c.URL(postgrestest.Role, name))
	enginetest.Commit(t, e, puts("a", "1"))
	w := e.committer(0)
	w.seq++
	late := w.token
	if written, err := e.resolve(context.Background(), w); written || err != nil {
		t.Fatal(written, err)
	}
	if _, err := sendLate(t, c, name, "late", late); !hasCode(err, codeTokenChanged) {
		t.Errorf("a late commit: %v", err)
	}
	enginetest.Commit(t, e, puts("b", "2"))
	if got := enginetest.Content(t, e); got != "a=1 b=2" {
		t.Errorf("the table holds %q", got)
	}
}

// TestALostAnswerWaitsForItsCommit: as long as the commit is under way, either can come of it.
func TestALostAnswerWaitsForItsCommit(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	e := open(t, c.URL(postgrestest.Role, name))
	for _, written := range []bool{true, false} {
		enginetest.Commit(t, e, puts("a", "1"))
		w := e.committer(0)
		w.seq++
		tx, err := sendLate(t, c, name, "2", w.token)
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan bool, 1)
		go func() {
			got, err := e.resolve(context.Background(), w)
			if err != nil {
				t.Error(err)
			}
			answer <- got
		}()
		select {
		case <-answer:
			t.Error("the answer was not waited for")
		case <-time.After(50 * time.Millisecond):
		}
		want := "a=1"
		if written {
			want, err = "a=2", tx.Commit(context.Background())
		} else {
			err = tx.Rollback(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := <-answer; got != written {
			t.Errorf("written: %t, want %t", got, written)
		}
		if got := enginetest.Content(t, e); got != want {
			t.Errorf("the table holds %q, want %q", got, want)
		}
	}
}
