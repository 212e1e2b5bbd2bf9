package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"keymill/storage"
)

// A token names one try of one commit.
type token struct {
	id         string
	epoch, seq int64
	few        bool // take as few locks as possible, because the lock table is full
}

// A committer is a row in keymill.node, and what this node knows of it.
type committer struct {
	mu    sync.Mutex // held during a commit
	token            // id is empty while there is no row
}

func (e *Engine) committer(n int) *committer {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.committers[n] == nil {
		e.committers[n] = &committer{}
	}
	return e.committers[n]
}

// A transaction is sent with a token, whose number it writes.
type transaction func(context.Context, *pgxpool.Conn, token) error

// write sends a transaction until its answer is known. It sends it again only if it was not written. All tries, and the
// questions what became of them, have one deadline.
func (e *Engine) write(ctx context.Context, n int, send transaction) error {
	c := e.committer(n)
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.timeFor(ctx))
	defer cancel()
	w := waiter{hurry: &e.hurry}
	c.few = false
	for {
		err := e.writeOnce(ctx, c, send)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, storage.ErrUnknownOutcome):
			return err
		}
		if _, own := errors.AsType[errFunction](err); own {
			return err
		}
		if hasCode(err, codeTokenChanged) {
			c.id = "" // the row is gone, perhaps with a primary that failed. The next try makes another one
		}
		c.few = c.few || hasCode(err, codeLockTableFull)
		if classify(err) == refused || !w.more(ctx, err) {
			return e.fault(w.reason(err))
		}
	}
}

// writeOnce sends a transaction once. If the answer is lost it finds out what became of it, and returns
// nil if it was written.
func (e *Engine) writeOnce(ctx context.Context, c *committer, send transaction) error {
	conn, err := e.acquire(ctx, e.commits)
	if err != nil {
		return err
	}
	defer conn.Release()
	if c.id == "" {
		if err := e.register(ctx, conn, c); err != nil {
			return connectFailure{err} // the transaction has not been sent
		}
	}
	c.seq++
	err = e.once(ctx, func(ctx context.Context) error { return send(ctx, conn, c.token) })
	if err == nil || classify(err) != lost {
		return err
	}
	conn.Release()
	written, unknown := e.resolve(ctx, c)
	switch {
	case unknown != nil:
		c.id = "" // the next commit must not wait for this one
		// The reason is text only: an error that matches ErrUnavailable or ErrNoSpace means that nothing was written.
		return fmt.Errorf("%w: %v", storage.ErrUnknownOutcome, e.fault(unknown))
	case written:
		return nil
	}
	return connectFailure{err} // as if it had not been sent
}

// register makes a row for the committer.
func (e *Engine) register(ctx context.Context, conn *pgxpool.Conn, c *committer) error {
	id := randomName()
	err := e.once(ctx, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `INSERT INTO keymill.node (id) VALUES ($1)`, id)
		return err
	})
	if err == nil {
		c.id, c.epoch, c.seq = id, 0, 0
	}
	return err
}

// resolve finds out whether the commit with the newest number was written. If it was not, it
// never will be.
//
// No row means the same: commit_v2 refuses a token without a row, and only a failover that lost
// the commit can have lost its row, because rows are removed only if they are not used.
func (e *Engine) resolve(ctx context.Context, c *committer) (written bool, err error) {
	err = e.retry(ctx, e.commits, func(ctx context.Context, conn *pgxpool.Conn) error {
		var seq int64
		err := conn.QueryRow(ctx, `UPDATE keymill.node SET epoch = epoch + 1 WHERE id = $1 RETURNING epoch, seq`, c.id).Scan(&c.epoch, &seq)
		if errors.Is(err, pgx.ErrNoRows) {
			c.id = ""
			return nil
		}
		written = seq == c.seq
		return err
	})
	return written && err == nil, err
}

// tokenLife is how long a row of a committer stays after its last commit. A node that commits later
// than that makes another one.
const tokenLife = `7 days`

// removeOldTokens removes rows of nodes that were killed.
func (e *Engine) removeOldTokens(ctx context.Context) error {
	return e.retry(ctx, e.commits, func(ctx context.Context, c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, `DELETE FROM keymill.node WHERE used < pg_catalog.now() - interval '`+tokenLife+`'`)
		return err
	})
}

// removeTokens removes the rows of this node, if the database can be reached at once.
func (e *Engine) removeTokens() {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for _, c := range e.committers {
		if c.id != "" {
			ids = append(ids, c.id)
		}
	}
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = e.commits.Exec(ctx, `DELETE FROM keymill.node WHERE id = ANY ($1::text[])`, ids) // removeOldTokens of another node does it otherwise
}
