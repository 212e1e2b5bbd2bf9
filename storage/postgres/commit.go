package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// Statements of commits.
const (
	compareStatement = `SELECT k, v, ver FROM keymill.compare_v1($1, $2, $3, $4, $5, $6)`
	commitStatement  = `SELECT k, v, ver FROM keymill.commit_v2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`
	aloneStatement   = `SELECT pg_catalog.pg_advisory_xact_lock(1263356236, 0)` // lock 0, as commit_v2 takes it
)

// changedSpan is the version in a row that says that a span changed.
const changedSpan = -1

// Commit implements optimistic.Engine. It goes on when ctx ends.
func (e *Engine) Commit(ctx context.Context, committer int, b *optimistic.Batch) (version int64, stale *optimistic.Stale, err error) {
	compared := comparison(b)
	if len(b.Writes) == 0 {
		err = e.retry(ctx, e.commits, func(ctx context.Context, c *pgxpool.Conn) error {
			stale, err = changes(e.query(ctx, c, compareStatement, compared...))
			return err
		})
		return 0, stale, err
	}
	version = randomNumber()
	alone, locks := locksOf(b)
	writes := changesOf(b)
	err = e.write(ctx, committer, func(ctx context.Context, c *pgxpool.Conn, t token) error {
		stale = nil
		args := append([]any{t.id, t.epoch, t.seq, version, alone || t.few, locks}, compared...)
		stale, err = changes(e.query(ctx, c, commitStatement, append(args, writes...)...))
		return err
	})
	return version, stale, err
}

// comparison returns the arguments of compare_v1.
func comparison(b *optimistic.Batch) []any {
	keys, versions := make([]string, len(b.Reads)), make([]int64, len(b.Reads))
	for i, r := range b.Reads {
		keys[i], versions[i] = r.Key, r.Version
	}
	var starts []string
	var ends []*string // nil for a span without an end
	var counts []int32
	var within []int64
	for _, s := range b.Spans {
		start, some := atLeast(s.Start)
		if !some {
			continue // no key can be in it
		}
		var last *string
		if end, bounded := endOf(s.End); bounded {
			last = &end
		}
		starts, ends, counts = append(starts, start), append(ends, last), append(counts, int32(len(s.Records)))
		for _, r := range s.Records {
			within = append(within, r.Version)
		}
	}
	return []any{keys, versions, starts, ends, counts, nonNil(within)}
}

// changesOf returns the last arguments of commit_v2. A record that is known to be there is updated, which
// takes less than to put it.
func changesOf(b *optimistic.Batch) []any {
	var updated, put, deleted []string
	var newValues, putValues [][]byte
	for _, w := range b.Writes {
		switch {
		case w.Deleted:
			deleted = append(deleted, w.Key)
		case wasRead(b.Reads, w.Key):
			updated, newValues = append(updated, w.Key), append(newValues, nonNil(w.Value))
		default:
			put, putValues = append(put, w.Key), append(putValues, nonNil(w.Value))
		}
	}
	return []any{updated, newValues, put, putValues, deleted}
}

func wasRead(reads []optimistic.Record, key string) bool {
	i, found := slices.BinarySearchFunc(reads, key, func(r optimistic.Record, key string) int {
		switch {
		case r.Key < key:
			return -1
		case r.Key > key:
			return 1
		}
		return 0
	})
	return found && reads[i].Version != 0
}

// nonNil keeps an empty list or value from becoming NULL.
func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// changes reads what compare_v1 returns. nil means that everything holds.
func changes(rows pgx.Rows, err error) (*optimistic.Stale, error) {
	if err != nil {
		return nil, err
	}
	changed, err := pgx.CollectRows(rows, record)
	if err != nil || len(changed) == 0 {
		return nil, err
	}
	stale := &optimistic.Stale{}
	for _, r := range changed {
		if r.Version == changedSpan {
			stale.Spans = true
		} else {
			stale.Records = append(stale.Records, r)
		}
	}
	return stale, nil
}

// errFunction marks an error of the function of Exclusive.
type errFunction struct{ error }

// Exclusive implements optimistic.Engine. It goes on when ctx ends.
func (e *Engine) Exclusive(ctx context.Context, committer int, fn func(storage.Reader) ([]storage.Write, error)) (int64, error) {
	version := randomNumber()
	err := e.write(ctx, committer, func(ctx context.Context, c *pgxpool.Conn, t token) error {
		b := &pgx.Batch{}
		b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
		b.Queue(aloneStatement)
		defer end(c, "ROLLBACK") // does nothing after COMMIT
		if err := c.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		r := &reader{engine: e, ctx: ctx, conn: c}
		writes, err := fn(r)
		r.ended = true
		switch {
		case r.err != nil:
			return r.err // fn has not seen all that it asked for
		case err != nil:
			return errFunction{err}
		case len(writes) == 0:
			return nil
		}
		return e.send(ctx, c, t, version, writes)
	})
	if f, ok := errors.AsType[errFunction](err); ok {
		return 0, f.error
	}
	return version, err
}

// errNotWritten is for a commit_v2 that returns rows although it has nothing to compare. It has written nothing.
var errNotWritten = errors.New("keymill.commit_v2 has refused a commit that compares nothing, so it is not the function of this program; as the owner of the tables, run what `keymill migrate --print` prints")

// send writes and commits what the function of Exclusive returned.
func (e *Engine) send(ctx context.Context, c *pgxpool.Conn, t token, version int64, writes []storage.Write) error {
	batch := &optimistic.Batch{Writes: writes}
	args := append([]any{t.id, t.epoch, t.seq, version, true, []int32{}}, comparison(batch)...)
	b := &pgx.Batch{}
	b.Queue(commitStatement, append(args, changesOf(batch)...)...)
	b.Queue("COMMIT")
	answers := c.SendBatch(ctx, b)
	stale, err := changes(answers.Query())
	if err = cmp.Or(err, answers.Close()); err == nil && stale != nil {
		err = errFunction{fmt.Errorf("%s: %w", e.target, errNotWritten)} // another try changes nothing
	}
	return err
}
