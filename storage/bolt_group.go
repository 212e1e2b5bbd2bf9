package storage

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"go.etcd.io/bbolt"
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
	fn   func(Tx) error
	done chan struct{} // closed after the group's commit; what follows is set before

	err    error  // of fn, or of the commit
	panic  *Panic // fn panicked
	exited bool   // fn ended its goroutine, as t.FailNow does
}

// A Panic carries a panic out of a store's goroutine into that of its caller.
type Panic struct {
	Value any
	Stack []byte // of the goroutine that ran the function
}

func (p *Panic) Error() string {
	return fmt.Sprintf("%v\n\npanicked in a transaction:\n%s", p.Value, p.Stack)
}

// Unwrap returns the value if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
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
	bucket *bbolt.Bucket
	cursor *bbolt.Cursor
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
func (b *Bolt) run(g *group) {
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
func (b *Bolt) next(g *group) *call {
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

func (b *Bolt) begin() *group {
	tx, err := b.db.Begin(true)
	if err != nil {
		return &group{broken: fmt.Errorf("begin transaction: %w", err)}
	}
	bucket := tx.Bucket([]byte(bucketName))
	bucket.FillPercent = pageFill // of this transaction; bbolt keeps no such setting
	return &group{tx: tx, bucket: bucket, cursor: bucket.Cursor()}
}

// serve runs one function against its own overlay, for bbolt has no savepoints: a
// neighbour's failure must neither undo nor repeat anybody else's work.
func (g *group) serve(c *call) {
	if g.broken != nil {
		return
	}
	t := newBoltTx(g.bucket, g.cursor)
	returned, applying := false, false
	defer func() {
		t.bucket = nil
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
			c.panic = &Panic{Value: p, Stack: debug.Stack()}
		}
	}()
	c.err = t.verdict(c.fn(t))
	if c.err == nil && t.wrote {
		applying = true
		g.wrote = true
		g.bytes += t.bytes
		g.broken = t.apply()
	}
	returned = true
}

// finish commits the group and answers its calls. Those that failed or only read
// are answered no sooner, since they may have read what a neighbour wrote.
func (b *Bolt) finish(g *group) {
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
func (b *Bolt) settle(g *group) error {
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
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	b.fail(err)
	return err
}

// sync commits tx. bbolt asserts its invariants with panics, and one of them in
// the middle of a commit is an unknown outcome like any other.
func (b *Bolt) sync(tx *bbolt.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("commit broke off: %v", p)
			b.release(tx)
		}
	}()
	return b.commit(tx)
}

// release gives bbolt's writer lock back after a panic, so that Close can end.
func (b *Bolt) release(tx *bbolt.Tx) {
	defer func() {
		if recover() != nil {
			b.stuck.Store(true)
		}
	}()
	tx.Rollback()
}
