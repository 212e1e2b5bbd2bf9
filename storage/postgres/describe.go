package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Server is what an operator wants to know of a server and its standbys.
type Server struct {
	Version           string // 15.18
	Fsync             string
	SynchronousCommit string // of this role in this database
	StandbyNames      string // synchronous_standby_names; "" if no commit waits for a standby
	Standbys          []Standby
	Schema            int      // version of the tables
	Functions         []string // of the schema keymill, with their versions in their names, sorted
}

// A Standby is connected to a server.
type Standby struct {
	Name   string // application_name
	Hidden bool   // the role may not see more than that it is there
	Sync   string // sync, quorum, potential or async
	Behind int64  // bytes of the log that are durable on the server and not on the standby
	Lag    time.Duration
}

// Describe asks the server. It changes nothing.
func (e *Engine) Describe(ctx context.Context) (s Server, err error) {
	const about = `
		SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('fsync'),
			pg_catalog.current_setting('synchronous_commit'), pg_catalog.current_setting('synchronous_standby_names'),
			(SELECT version FROM keymill.schema),
			ARRAY(SELECT proname::text FROM pg_catalog.pg_proc WHERE pronamespace = 'keymill'::pg_catalog.regnamespace ORDER BY 1)`
	// Other roles than members of pg_read_all_stats see that a standby is there, and nothing of it.
	const standbys = `
		SELECT coalesce(application_name, ''), sync_state IS NULL, coalesce(sync_state, ''),
			coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), flush_lsn), 0)::bigint,
			(coalesce(extract(epoch FROM flush_lag), 0) * 1000)::bigint
		FROM pg_catalog.pg_stat_replication WHERE coalesce(state, '') <> 'backup' ORDER BY 1`
	err = e.retry(ctx, e.reads, func(ctx context.Context, c *pgxpool.Conn) error {
		s = Server{}
		if err := c.QueryRow(ctx, about).Scan(&s.Version, &s.Fsync, &s.SynchronousCommit, &s.StandbyNames, &s.Schema, &s.Functions); err != nil {
			return err
		}
		rows, err := c.Query(ctx, standbys)
		if err != nil {
			return err
		}
		s.Standbys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Standby, err error) {
			var lag int64
			err = row.Scan(&b.Name, &b.Hidden, &b.Sync, &b.Behind, &lag)
			b.Lag = time.Duration(lag) * time.Millisecond
			return b, err
		})
		return err
	})
	return s, err
}
