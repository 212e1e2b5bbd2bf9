package postgres

import (
	"context"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// TestAPoolerInTransactionModeFits: the start with its checks, every kind of request, and a restart of
// the pooler under load.
func TestAPoolerInTransactionModeFits(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	pooler := c.Pooler(t)
	config := Config{URL: pooler.URL(name), Create: true, Deadline: 30 * time.Second}
	e := openWith(t, config)
	version := enginetest.Commit(t, e, puts("a", "1", "b", "2"))
	enginetest.Commit(t, e, reads("a", version), scanned("b", "c", at("b", version)), puts("a", "3"))
	if err := e.Snapshot(context.Background(), func(r storage.Reader) error {
		enginetest.Commit(t, e, puts("a", "4"))
		if v, err := r.Get("a"); err != nil || string(v) != "3" {
			t.Errorf("a snapshot sees a=%s, %v", v, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if _, err := e.Exclusive(context.Background(), 0, func(r storage.Reader) ([]storage.Write, error) {
		v, err := r.Get("a")
		return []storage.Write{{Key: "a", Value: append(v, '5')}}, err
	}); err != nil {
		t.Error(err)
	}
	if got := enginetest.Content(t, e); got != "a=45 b=2" {
		t.Errorf("the table holds %q", got)
	}
	for _, conn := range e.commits.AcquireAllIdle(context.Background()) {
		if conn.Conn().PgConn().CustomData()[directConnection] != false {
			t.Error("a connection to the pooler passes for one to the server")
		}
		conn.Release()
	}
	l := startLoad(e, openWith(t, config))
	for range 3 {
		time.Sleep(150 * time.Millisecond)
		pooler.Restart(t)
	}
	time.Sleep(150 * time.Millisecond)
	l.check(t, open(t, c.URL(postgrestest.Role, name)))
}
