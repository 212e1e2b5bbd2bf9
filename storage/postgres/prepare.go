package postgres

import (
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A statement that is prepared need not be parsed for each call, and its arguments are binary. But a pooler may give the
// next transaction a connection to the server on which nothing was prepared, or the statements of another one. So
// statements are prepared only on connections that reach the server itself.

const preparedStatements = 3 // of a connection, at most: those that Fetch and Commit send

// directConnection marks a connection to the server itself in its CustomData.
const directConnection = "keymill.direct"

// Codes of a pooler that passes for the server: nothing was prepared on this connection, or another connection prepared
// the same statement there.
const (
	codeNoStatement  = "26000"
	codeHasStatement = "42P05"
)

// markDirect notes whether the process of the server that answers is the one that accepted the connection. A pooler
// cannot name that process, because it may be another one with each transaction.
func markDirect(c *pgconn.PgConn, answering string) {
	c.CustomData()[directConnection] = answering == strconv.FormatUint(uint64(c.PID()), 10)
}

// changedTable reports whether the server refuses a statement because it was prepared before someone changed the types of
// the columns that it returns, with ALTER TABLE. The server has done nothing. Other errors have the same code, and its message may
// be in any language.
func changedTable(e *pgconn.PgError) bool {
	return e.Code == codeNotSupported && e.Routine == "RevalidateCachedQuery"
}

// noteStatements stops preparing statements if err says that a pooler mixes them up. If it says that a table was changed, it
// drops the statements of all connections, because each of them would fail once.
func (e *Engine) noteStatements(err error) {
	if s := serverError(err); s != nil && changedTable(s) {
		e.reset()
	}
	if hasCode(err, codeNoStatement) || hasCode(err, codeHasStatement) {
		e.unprepared.Store(true)
		e.reset()
	}
}

// query sends one of the statements that are sent all the time.
func (e *Engine) query(ctx context.Context, c *pgxpool.Conn, statement string, args ...any) (pgx.Rows, error) {
	if direct, _ := c.Conn().PgConn().CustomData()[directConnection].(bool); direct && !e.unprepared.Load() {
		args = slices.Insert(args, 0, any(pgx.QueryExecModeCacheStatement))
	}
	return c.Query(ctx, statement, args...)
}
