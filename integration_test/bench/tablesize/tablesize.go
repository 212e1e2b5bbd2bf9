// Package tablesize measures the bytes that sessions take in PostgreSQL: of the table, of its index and of the
// write-ahead log (WAL). It starts a PostgreSQL of its own and begins sessions through the real issuer, without HTTP and
// without passwords. Bytes depend on the machine hardly at all, so one round is enough.
package tablesize

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"

	"keymill/issuer/refusal"
	"keymill/storage/postgres/postgrestest"
)

// A plan says how many records there are.
type plan struct{ users, sessions int }

// A meter reads the counters of a server.
type meter struct {
	cluster *postgrestest.Cluster
	conn    *pgx.Conn
}

// walOf returns the bytes of WAL that the server wrote while fn ran.
func (m *meter) walOf(ctx context.Context, fn func() error) (int64, error) {
	from, err := value[string](ctx, m, "SELECT pg_current_wal_insert_lsn()::text")
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	return value[int64](ctx, m, "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::bigint", from)
}

func value[T any](ctx context.Context, m *meter, query string, args ...any) (v T, err error) {
	err = m.conn.QueryRow(ctx, query, args...).Scan(&v)
	return v, err
}

// A kind has the records whose keys begin with the same word.
type kind struct {
	name         string
	records      int64
	table, index float64 // bytes of all of its records
}

// kinds shares the bytes of the table among the kinds by the bytes of their rows, and those of the index by the bytes
// of their entries. So each has its part of free space and of inner pages.
const kinds = `
WITH r AS (
  SELECT split_part(k, '/', 1) AS kind, pg_column_size(r.*) + 4 AS row, 12 + (length(k) + 8) / 8 * 8 AS entry FROM keymill.record AS r)
SELECT kind, count(*),
  sum(row)::float8 / (SELECT sum(row) FROM r) * pg_table_size('keymill.record'),
  sum(entry)::float8 / (SELECT sum(entry) FROM r) * pg_indexes_size('keymill.record')
FROM r GROUP BY kind ORDER BY kind`

func (m *meter) kinds(ctx context.Context) (all []kind, err error) {
	rows, err := m.conn.Query(ctx, kinds)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k kind, err error) {
		return k, row.Scan(&k.name, &k.records, &k.table, &k.index)
	})
}

// sizes are what Measure prints.
type sizes struct {
	plan
	kinds             []kind
	login             int64 // WAL of all logins
	refresh           int64 // WAL of one refresh of each session, whose pages the log has since the last checkpoint
	afterCheckpoint   int64 // the same after a checkpoint
	compressed        int64 // the same with wal_compression
	updates, hotShare float64
}

// Measure prints the bytes.
func Measure(ctx context.Context, quick bool, w io.Writer) error {
	p := plan{users: 10_000, sessions: 20_000}
	if quick {
		p = plan{users: 200, sessions: 400}
	}
	cluster, err := postgrestest.New("shared_buffers=256MB", "max_wal_size=4GB")
	if err != nil {
		return err
	}
	defer cluster.Remove()
	database, err := cluster.CreateDatabase()
	if err != nil {
		return err
	}
	m := &meter{cluster: cluster}
	if m.conn, err = pgx.Connect(ctx, cluster.URL(postgrestest.Superuser, database)+"?sslmode=disable"); err != nil {
		return err
	}
	defer m.conn.Close(ctx)
	s, err := m.fill(ctx, cluster.URL(postgrestest.Role, database), p)
	if err != nil {
		return err
	}
	return s.print(w)
}

// fill begins the sessions, and refreshes each three times.
func (m *meter) fill(ctx context.Context, url string, p plan) (s sizes, err error) {
	s.plan = p
	i, err := openIssuer(ctx, url)
	if err != nil {
		return s, err
	}
	defer i.close()
	users, err := i.addUsers(ctx, p.users)
	if err != nil {
		return s, err
	}
	if err := m.awaitChain(ctx); err != nil {
		return s, err
	}
	var tokens []refusal.Secret
	if s.login, err = m.walOf(ctx, func() (err error) {
		if tokens, err = i.begin(ctx, users, p.sessions); err != nil {
			return err
		}
		return m.awaitChain(ctx) // which is a part of the cost of a login
	}); err != nil {
		return s, err
	}
	if err := m.exec(ctx, "VACUUM ANALYZE keymill.record"); err != nil {
		return s, err
	}
	if s.kinds, err = m.kinds(ctx); err != nil {
		return s, err
	}
	// Sessions are refreshed in another order than they began.
	rand.Shuffle(len(tokens), func(a, b int) { tokens[a], tokens[b] = tokens[b], tokens[a] })
	if err := m.exec(ctx, "CHECKPOINT", "SELECT pg_stat_reset()"); err != nil {
		return s, err
	}
	refresh := func() error { return i.refresh(ctx, tokens) }
	if s.afterCheckpoint, err = m.walOf(ctx, refresh); err != nil {
		return s, err
	}
	if s.refresh, err = m.walOf(ctx, refresh); err != nil {
		return s, err
	}
	if err := m.exec(ctx, "ALTER SYSTEM SET wal_compression = 'lz4'", "SELECT pg_reload_conf()", "CHECKPOINT"); err != nil {
		return s, err
	}
	if s.compressed, err = m.walOf(ctx, refresh); err != nil {
		return s, err
	}
	i.close() // the statistics of its connections are complete when they end
	return s, m.countUpdates(ctx, &s)
}

func (s sizes) print(w io.Writer) error {
	fmt.Fprintf(w, "%d sessions of %d users in PostgreSQL\n", s.sessions, s.users)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "records\tnumber\ttable B each\tindex B each\ttable B a session\tindex B a session\t")
	all := kind{name: "all"}
	for _, k := range s.kinds {
		if k.records < int64(s.users/2) {
			continue // few records, whose number does not grow with the sessions
		}
		s.line(t, k)
		all.records, all.table, all.index = all.records+k.records, all.table+k.table, all.index+k.index
	}
	s.line(t, all)
	if err := t.Flush(); err != nil {
		return err
	}
	each := func(bytes int64) float64 { return float64(bytes) / float64(s.sessions) }
	fmt.Fprintf(w, "WAL of a login %.0f B, with the chain of the audit log\n", each(s.login))
	fmt.Fprintf(w, "WAL of a refresh %.0f B; if each session has one after a checkpoint %.0f B, with wal_compression = lz4 %.0f B\n",
		each(s.refresh), each(s.afterCheckpoint), each(s.compressed))
	_, err := fmt.Fprintf(w, "updates that left the index as it is (HOT): %.1f %% of %.0f\n", 100*s.hotShare, s.updates)
	return err
}

func (s sizes) line(w io.Writer, k kind) {
	n := float64(k.records)
	fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t\n", k.name, k.records, k.table/n, k.index/n, k.table/float64(s.sessions), k.index/float64(s.sessions))
}
