package postgres

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Pauses between tries of a request.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = 250 * time.Millisecond
)

// A waiter pauses between the tries of one call. It remembers why they failed.
type waiter struct {
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
		return true
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
	ctx, cancel := context.WithTimeout(caller, e.deadline)
	defer cancel()
	var w waiter
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

// once calls try, and leaves the server if that cannot write.
func (e *Engine) once(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := e.patience(ctx)
	defer cancel()
	err := try(ctx)
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

// patience bounds a request. A server that is silent for half of the deadline may be gone without a
// trace, and another connection then has the other half.
func (e *Engine) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.deadline/2)
}

func (e *Engine) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	c, err := pool.Acquire(ctx)
	if err != nil {
		return nil, connectFailure{err}
	}
	return c, nil
}
