package postgres

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"keymill/storage"
	"keymill/storage/optimistic"
)

const fetchStatement = `SELECT k, v, ver FROM keymill.record WHERE k = ANY ($1::text[])`

// Fetch implements optimistic.Engine.
func (e *Engine) Fetch(ctx context.Context, keys []string) (records []optimistic.Record, err error) {
	err = e.retry(ctx, e.reads, func(ctx context.Context, c *pgxpool.Conn) error {
		records, err = e.fetch(ctx, c, keys)
		return err
	})
	return records, err
}

// Scan implements optimistic.Engine.
func (e *Engine) Scan(ctx context.Context, start, end string, limit int) (records []optimistic.Record, err error) {
	err = e.retry(ctx, e.reads, func(ctx context.Context, c *pgxpool.Conn) error {
		records, err = scan(ctx, c, start, end, limit)
		return err
	})
	return records, err
}

func (e *Engine) fetch(ctx context.Context, c *pgxpool.Conn, keys []string) ([]optimistic.Record, error) {
	rows, err := e.query(ctx, c, fetchStatement, keys)
	if err != nil {
		return nil, err
	}
	present, err := pgx.CollectRows(rows, record)
	if err != nil {
		return nil, err
	}
	found := make(map[string]optimistic.Record, len(present)) // key → record
	for _, r := range present {
		found[r.Key] = r
	}
	records := make([]optimistic.Record, len(keys))
	for i, key := range keys {
		if records[i] = found[key]; records[i].Version == 0 {
			records[i].Key = key
		}
	}
	return records, nil
}

func scan(ctx context.Context, c *pgxpool.Conn, start, end string, limit int) ([]optimistic.Record, error) {
	first, some := atLeast(start)
	if !some {
		return nil, nil
	}
	last, bounded := endOf(end)
	query, args := `SELECT k, v, ver FROM keymill.record WHERE k >= $1::text ORDER BY k LIMIT $2`, []any{first, limit}
	if bounded {
		query, args = `SELECT k, v, ver FROM keymill.record WHERE k >= $1::text AND k < $3::text ORDER BY k LIMIT $2`, append(args, last)
	}
	rows, err := c.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, record)
}

// record reads one row. pgx makes a copy of the value, and never nil of one that is empty.
func record(row pgx.CollectableRow) (r optimistic.Record, err error) {
	err = row.Scan(&r.Key, &r.Value, &r.Version)
	return r, err
}

// Snapshot implements optimistic.Engine.
func (e *Engine) Snapshot(ctx context.Context, fn func(storage.Reader) error) error {
	c, err := e.begin(ctx)
	if err != nil {
		return err
	}
	r := &reader{engine: e, ctx: ctx, conn: c}
	defer func() {
		r.ended = true
		end(c, "COMMIT")
		c.Release()
	}()
	err = fn(r)
	if err == nil && r.err != nil { // fn ignored that a record could not be read
		err = cmp.Or(ctx.Err(), e.fault(r.err))
	}
	return err
}

// begin opens a transaction that shows one instant. The first query of the transaction takes the
// snapshot, so it is sent with BEGIN.
func (e *Engine) begin(ctx context.Context) (c *pgxpool.Conn, err error) {
	err = e.repeat(ctx, func(ctx context.Context) error {
		if c, err = e.acquire(ctx, e.reads); err != nil {
			return err
		}
		var standby bool
		b := &pgx.Batch{}
		b.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
		b.Queue("SELECT pg_catalog.pg_is_in_recovery()").QueryRow(func(row pgx.Row) error { return row.Scan(&standby) })
		if err = c.SendBatch(ctx, b).Close(); err == nil && standby {
			err = errStandby
		}
		if err != nil {
			end(c, "ROLLBACK")
			c.Release()
		}
		return err
	})
	return c, err
}

// end ends the transaction of the connection, if there is one. If that fails, the pool closes the
// connection when it gets it back.
func end(c *pgxpool.Conn, statement string) {
	if c.Conn().IsClosed() || c.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = c.Exec(ctx, statement)
}

var errEnded = errors.New("transaction has ended")

// A reader is the Reader of a transaction. It is used by one goroutine.
type reader struct {
	engine *Engine
	ctx    context.Context
	conn   *pgxpool.Conn
	ended  bool
	err    error // the first error of the connection
}

// Get implements storage.Reader.
func (r *reader) Get(key string) ([]byte, error) {
	values, err := r.GetAll(key)
	if err != nil {
		return nil, err
	}
	if values[0] == nil {
		return nil, storage.ErrNotFound
	}
	return values[0], nil
}

// GetAll implements storage.Reader.
func (r *reader) GetAll(keys ...string) ([][]byte, error) {
	if r.ended {
		return nil, errEnded
	}
	for _, key := range keys {
		if err := storage.CheckKey(key); err != nil {
			return nil, err
		}
	}
	var records []optimistic.Record
	if err := r.request(func(ctx context.Context) (err error) {
		records, err = r.engine.fetch(ctx, r.conn, keys)
		return err
	}); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i := range records {
		if records[i].Version != 0 {
			values[i] = slices.Clone(records[i].Value) // keys can repeat
		}
	}
	return values, nil
}

// scanPage is how many records a Scan reads at once.
const scanPage = 256

// Scan implements storage.Reader.
func (r *reader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for {
			var page []optimistic.Record
			err := errEnded
			if !r.ended {
				err = r.request(func(ctx context.Context) (err error) {
					page, err = scan(ctx, r.conn, start, end, scanPage)
					return err
				})
			}
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			for _, record := range page {
				if !yield(storage.Entry{Key: record.Key, Value: record.Value}, nil) {
					return
				}
				if r.ended { // iter.Pull can keep the iterator longer
					yield(storage.Entry{}, errEnded)
					return
				}
			}
			if len(page) < scanPage {
				return
			}
			start = storage.After(page[len(page)-1].Key)
		}
	}
}

func (r *reader) request(send func(context.Context) error) error {
	ctx, cancel := r.engine.patience(r.ctx)
	defer cancel()
	err := send(ctx)
	if err == nil {
		return nil
	}
	r.engine.noteStatements(err)
	if r.err == nil {
		r.err = err
	}
	return cmp.Or(r.ctx.Err(), r.engine.fault(err))
}
