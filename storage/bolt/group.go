package bolt

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// Bounds of one group, so that a steady stream of callers cannot keep the first
// one waiting for its commit.
const (
	maxGroupCalls = 128
	maxGroupBytes = 8 << 20
)

// pageFill is how full a page is left when it splits. Nearly all keys that are new end in
// something that grows with time (families, their index, the audit log, users), so a page
// is left for good when the next one begins. bbolt's own 0.5 is better only for keys in
// random order, and they are few: names of users, lists of their families.
const pageFill = 0.9

// A call is one Update on its way through the queue.
type call struct {
	ctx  context.Context
	fn   func(storage.Tx) error
	done chan struct{} // closed after the group's commit; what follows is set before

	err    error          // of fn, or of the commit
	panic  *storage.Panic // fn panicked
	exited bool           // fn ended its goroutine, as t.FailNow does
}

// outcome ends the call in its caller's goroutine the way fn ended.
func (c *call) outcome() error {
	if c.panic != nil {
		panic(c.panic)
	}
	if c.exited {
		runtime.Goexit()
	}
	return c.err
}

// A group is the calls that share one bbolt transaction.
type group struct {
	tx     *bbolt.Tx
	base   groupReader
	calls  []*call
	bytes  int   // written so far
	wrote  bool  // somebody's writes are in tx
	broken error // a fault left tx in no state to be committed
}

func (g *group) full() bool {
	return len(g.calls) >= maxGroupCalls || g.bytes >= maxGroupBytes || g.broken != nil
}

// run is the store's one writer. It takes what waits, commits it together and
// begins again, until the store stops.
func (b *Store) run(g *group) {
	stopped := false
	defer func() {
		if stopped {
			close(b.idle)
			return
		}
		// A function ended this goroutine, and only its own caller shall be sorry:
		// another one takes the group over.
		go b.run(g)
	}()
	for {
		switch c := b.next(g); {
		case c == nil && g == nil:
			stopped = true
			return
		case c == nil:
			b.finish(g)
			g = nil
		case c.ctx.Err() != nil:
			c.err = c.ctx.Err() // its turn had not come yet
			close(c.done)
		default:
			if g == nil {
				g = b.begin()
			}
			g.calls = append(g.calls, c)
			g.serve(c)
		}
	}
}

// next returns the call whose turn it is. Before a group it waits; within one it
// takes only who is already there, and nil closes the group.
func (b *Store) next(g *group) *call {
	if g != nil {
		if g.full() {
			return nil
		}
		select {
		case c := <-b.calls:
			return c
		default:
			return nil
		}
	}
	select {
	case <-b.stopped: // before the lottery of the next select
		return nil
	default:
	}
	select {
	case c := <-b.calls:
		return c
	case <-b.stopped:
		return nil
	}
}

func (b *Store) begin() *group {
	tx, err := b.db.Begin(true)
	if err != nil {
		return &group{broken: fmt.Errorf("begin transaction: %w", err)}
	}
	bucket := tx.Bucket([]byte(bucketName))
	bucket.FillPercent = pageFill // of this transaction; bbolt keeps no such setting
	return &group{tx: tx, base: groupReader{bucket, bucket.Cursor()}}
}

// serve runs one function against its own overlay, for bbolt has no savepoints: a
// neighbour's failure must neither undo nor repeat anybody else's work.
func (g *group) serve(c *call) {
	if g.broken != nil {
		return
	}
	t := storage.NewOverlay(&g.base)
	returned, applying := false, false
	defer func() {
		t.End()
		if returned {
			return
		}
		p := recover()
		switch {
		case p == nil:
			c.exited = true
		case applying:
			g.broken = fmt.Errorf("apply writes: %v", p)
		default:
			c.panic = &storage.Panic{Value: p, Stack: debug.Stack()}
		}
	}()
	if c.err = c.fn(t); c.err == nil {
		c.err = t.Err()
	}
	if c.err == nil && t.Wrote() {
		applying = true
		g.wrote = true
		g.bytes += t.Bytes()
		g.broken = g.apply(t)
	}
	returned = true
}

// apply moves the writes into the group's transaction. An error leaves that
// transaction half written, and useless.
func (g *group) apply(t *storage.Overlay) error {
	for w := range t.Writes() {
		var err error
		if w.Deleted {
			err = g.base.bucket.Delete([]byte(w.Key))
		} else {
			err = g.base.bucket.Put([]byte(w.Key), w.Value)
		}
		if err != nil {
			return fmt.Errorf("apply writes: %w", err)
		}
	}
	return nil
}

// finish commits the group and answers its calls. Those that failed or only read
// are answered no sooner, since they may have read what a neighbour wrote.
func (b *Store) finish(g *group) {
	err := b.settle(g)
	for _, c := range g.calls {
		if err != nil {
			c.err = err
		}
		close(c.done)
	}
}

// settle ends the group's transaction. What it returns is the answer to every call
// of the group; nil leaves each its own.
func (b *Store) settle(g *group) error {
	if g.broken != nil || !g.wrote {
		// Nothing reaches the disk: what these functions read was synced before.
		if g.tx != nil {
			g.tx.Rollback()
		}
		return g.broken
	}
	f := &flight{landed: make(chan struct{})}
	defer close(f.landed)
	b.pending.Store(f)
	txid := int64(g.tx.ID())
	err := b.sync(g.tx)
	switch {
	case err == nil:
		b.synced.Store(txid)
		return nil
	case isNoSpace(err) && !b.visible():
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	err = fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, err)
	b.fail(err)
	return err
}

// sync commits tx. bbolt asserts its invariants with panics, and one of them in
// the middle of a commit is an unknown outcome like any other.
func (b *Store) sync(tx *bbolt.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("commit broke off: %v", p)
			b.release(tx)
		}
	}()
	return b.commit(tx)
}

// release gives bbolt's writer lock back after a panic, so that Close can end.
func (b *Store) release(tx *bbolt.Tx) {
	defer func() {
		if recover() != nil {
			b.stuck.Store(true)
		}
	}()
	tx.Rollback()
}
