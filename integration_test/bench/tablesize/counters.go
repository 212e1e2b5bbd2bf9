package tablesize

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const patience = 2 * time.Minute // only bounds a hang

func (m *meter) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := m.conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// awaitChain returns when no audit record waits for the chain.
func (m *meter) awaitChain(ctx context.Context) error {
	return m.await(ctx, "SELECT NOT EXISTS (SELECT FROM keymill.record WHERE k >= 'audit/new/' AND k < 'audit/new0')")
}

// await returns when a query gives true.
func (m *meter) await(ctx context.Context, query string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if done, err := value[bool](ctx, m, query); done || err != nil {
			return err
		}
	}
	return errors.New(query + ": still false")
}

// countUpdates reads how many updates there were, and how many of them changed no index.
func (m *meter) countUpdates(ctx context.Context, s *sizes) error {
	const enough = "SELECT pg_stat_get_tuples_updated('keymill.record'::regclass) >= $1"
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		done, err := value[bool](ctx, m, enough, 3*s.sessions)
		if err != nil {
			return err
		}
		if done {
			break
		}
		if time.Now().After(end) {
			return errors.New("the statistics of PostgreSQL lack the refreshes")
		}
	}
	return m.conn.QueryRow(ctx, `SELECT n_tup_upd::float8, n_tup_hot_upd::float8 / n_tup_upd FROM pg_stat_user_tables
		WHERE schemaname = 'keymill' AND relname = 'record'`).Scan(&s.updates, &s.hotShare)
}
