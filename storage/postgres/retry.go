package postgres

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Pauses between tries of a request.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = 250 * time.Millisecond
)

// Hurry says that the program ends. From then on no call waits for a PostgreSQL that is away: each one ends with its
// first try that fails, and a silent server has two seconds for an answer.
func (e *Engine) Hurry() { e.hurry.Store(true) }

// leastPatience is how long a request has at least, unless its call ends before.
const leastPatience = 250 * time.Millisecond

const hurryDeadline = 4 * time.Second // of a call after Hurry; a request has half of it

// limit returns how long a call waits.
func (e *Engine) limit() time.Duration {
	if e.hurry.Load() {
		return min(e.deadline, hurryDeadline)
	}
	return e.deadline
}

// A waiter pauses between the tries of one call. It remembers why they failed.
type waiter struct {
	hurry *atomic.Bool // of the Engine
	pause time.Duration
	last  error // the newest error that is not about the deadline
}

// more reports whether to try again after err. It waits before.
func (w *waiter) more(ctx context.Context, err error) bool {
	if !errors.Is(err, context.DeadlineExceeded) || w.last == nil {
		w.last = err
	}
	w.pause = min(max(2*w.pause, firstPause), longestPause)
	timer := time.NewTimer(w.pause/2 + rand.N(w.pause/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return !w.hurry.Load()
	}
}

// retry sends a request that may be sent twice, on connections of the pool.
func (e *Engine) retry(ctx context.Context, pool *pgxpool.Pool, request func(context.Context, *pgxpool.Conn) error) error {
	return e.repeat(ctx, func(ctx context.Context) error {
		c, err := e.acquire(ctx, pool)
		if err != nil {
			return err
		}
		defer c.Release()
		return request(ctx, c)
	})
}

// repeat calls try until it succeeds, an operator must act first, or the deadline is over. If the caller's
// context ends, that says nothing about the server.
func (e *Engine) repeat(caller context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(caller, e.limit())
	defer cancel()
	w := waiter{hurry: &e.hurry}
	for {
		err := e.once(ctx, try)
		if err == nil {
			return nil
		}
		if ended := caller.Err(); ended != nil {
			return ended
		}
		if classify(err) == refused || !w.more(ctx, err) {
			return cmp.Or(caller.Err(), e.fault(w.reason(err)))
		}
	}
}

// once calls try. It leaves the server if that cannot write, and connections on which a pooler mixes up statements.
func (e *Engine) once(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := e.patience(ctx)
	defer cancel()
	err := try(ctx)
	e.noteStatements(err)
	if cannotWrite(err) {
		e.reset()
	}
	return err
}

// reason returns what to tell the caller.
func (w *waiter) reason(err error) error {
	if w.last != nil && errors.Is(err, context.DeadlineExceeded) {
		return w.last
	}
	return err
}

// patience bounds a request. A server that is silent for half of the time that is left may be gone without a
// trace, and another connection then has half of the rest.
func (e *Engine) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(e.timeFor(ctx)/2, leastPatience))
}

// timeFor returns how long a call waits whose caller has a deadline of its own.
func (e *Engine) timeFor(ctx context.Context) time.Duration {
	if end, bounded := ctx.Deadline(); bounded {
		return min(e.limit(), time.Until(end))
	}
	return e.limit()
}

func (e *Engine) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	c, err := pool.Acquire(ctx)
	if err != nil {
		return nil, connectFailure{err}
	}
	return c, nil
}
