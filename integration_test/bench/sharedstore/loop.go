package sharedstore

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// A loop is a pool of pgx as it is by default, with a connection for each caller.
type loop struct{ pool *pgxpool.Pool }

func openLoop(url string, callers int) (*loop, error) {
	c, err := pgxpool.ParseConfig(url + "?sslmode=disable")
	if err != nil {
		return nil, err
	}
	c.MaxConns = int32(callers)
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	return &loop{pool}, err
}

func (l *loop) close() { l.pool.Close() }

// loop reads a family and writes it. So it loses changes that others make in between.
func (c *caller) loop() error {
	ctx, key := context.Background(), familyKey(c.on.first+c.family)
	conn, err := c.on.loop.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var family []byte
	if err := conn.QueryRow(ctx, `SELECT v FROM keymill.record WHERE k = $1`, key).Scan(&family); err != nil {
		return err
	}
	rotate(family)
	// Another version, because the caches of nodes must not believe that they know the record.
	_, err = conn.Exec(ctx, `UPDATE keymill.record SET v = $2, ver = ver + 1 WHERE k = $1`, key, family)
	return err
}

const (
	mostRuns     = 20
	hotCallers   = 16
	hotNodes     = 3
	countsOfEach = 100
)

// hotCounter lets callers on several nodes count, and returns how often one function ran at most.
func (b *bench) hotCounter() (most int, err error) {
	s, err := openNodes(b.urls[near], hotNodes, optimistic.Options{})
	if err != nil {
		return 0, err
	}
	defer s.close()
	each := min(countsOfEach, b.families/100)
	var mu sync.Mutex
	var all sync.WaitGroup
	for n := range hotCallers {
		all.Go(func() {
			for range each {
				runs := 0
				failed := s.stores[n%hotNodes].Update(context.Background(), func(tx storage.Tx) error {
					runs++ // what no other function does
					v, err := tx.Get("counter")
					if err != nil && !errors.Is(err, storage.ErrNotFound) {
						return err
					}
					count, _ := strconv.Atoi(string(v))
					return tx.Put("counter", []byte(strconv.Itoa(count+1)))
				})
				mu.Lock()
				most, err = max(most, runs), errors.Join(err, failed)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return most, err
}
