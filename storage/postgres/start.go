package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// leastVersion is the oldest server that is tested: PostgreSQL 15.
const leastVersion = 150000

// start checks the server and the tables. It changes nothing unless create is set and there are none.
func (e *Engine) start(ctx context.Context, create bool) error {
	if err := e.checkServer(ctx); err != nil {
		return err
	}
	if err := e.proveLocks(ctx); err != nil {
		return err
	}
	if err := e.checkSchema(ctx, create); err != nil {
		return err
	}
	return e.removeOldTokens(ctx)
}

// facts are the settings that decide whether a server can keep a store.
type facts struct {
	number            int    // 150018 for version 15.18
	version           string // 15.18
	fsync             string
	synchronousCommit string
	isolation         string
	encoding          string
}

// problem returns what is wrong with the server and what to do, or "".
func (f facts) problem() string {
	switch {
	case f.number < leastVersion:
		return fmt.Sprintf("the server has version %s, and version 15 or later is needed", f.version)
	case f.fsync != "on":
		return "fsync is off, so a crash of the server loses or damages the store. Turn it on"
	case f.synchronousCommit == "off" || f.synchronousCommit == "local":
		return fmt.Sprintf("synchronous_commit is %s for the role, the database or the server, so commits that were acknowledged can be lost. Set it to on, remote_write or remote_apply", f.synchronousCommit)
	case f.isolation != "read committed":
		return fmt.Sprintf("default_transaction_isolation is '%s' for the role, the database or the server, so commits would compare old records. Set it to 'read committed'", f.isolation)
	case f.encoding != "UTF8":
		return fmt.Sprintf("the database has the encoding %s. Create it with ENCODING 'UTF8' TEMPLATE template0", f.encoding)
	}
	return ""
}

func (e *Engine) checkServer(ctx context.Context) error {
	const query = `SELECT pg_catalog.current_setting('server_version_num')::integer, pg_catalog.current_setting('server_version'),
		pg_catalog.current_setting('fsync'), pg_catalog.current_setting('synchronous_commit'),
		pg_catalog.current_setting('default_transaction_isolation'), pg_catalog.current_setting('server_encoding')`
	var f facts
	err := e.retry(ctx, e.commits, func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, query).Scan(&f.number, &f.version, &f.fsync, &f.synchronousCommit, &f.isolation, &f.encoding)
	})
	if err != nil {
		return err
	}
	if p := f.problem(); p != "" {
		return fmt.Errorf("%s: %s", e.target, p)
	}
	return nil
}

// Statements that prove that locks lock. The class is another one than that of commits.
const (
	takeLock  = `SELECT pg_catalog.pg_advisory_xact_lock(1263356237, $1)`
	tryLock   = `SELECT pg_catalog.pg_try_advisory_xact_lock(1263356237, $1)`
	tryShared = `SELECT pg_catalog.pg_try_advisory_xact_lock_shared(1263356237, $1)`
)

// proveLocks takes a lock on one connection and tries it on another one. Engines that speak the protocol
// of PostgreSQL have had locks that did nothing, and no commit would notice.
func (e *Engine) proveLocks(ctx context.Context) error {
	number := int32(randomNumber()) // another one for each node that starts
	var taken, shared, free bool    // what the other connection got
	err := e.repeat(ctx, func(ctx context.Context) error {
		first, err := e.acquire(ctx, e.commits)
		if err != nil {
			return err
		}
		defer first.Release()
		second, err := e.acquire(ctx, e.reads)
		if err != nil {
			return err
		}
		defer second.Release()
		b := &pgx.Batch{}
		b.Queue("BEGIN")
		b.Queue(takeLock, number)
		defer end(first, "ROLLBACK")
		if err := first.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		if err := second.QueryRow(ctx, tryLock, number).Scan(&taken); err != nil {
			return err
		}
		if err := second.QueryRow(ctx, tryShared, number).Scan(&shared); err != nil {
			return err
		}
		if end(first, "ROLLBACK"); first.Conn().PgConn().TxStatus() != 'I' {
			return context.DeadlineExceeded
		}
		return second.QueryRow(ctx, tryLock, number).Scan(&free)
	})
	if err != nil {
		return err
	}
	if taken || shared || !free {
		return fmt.Errorf("%s: advisory locks do not lock, so this is no PostgreSQL that can keep a store", e.target)
	}
	return nil
}
