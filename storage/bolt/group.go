package bolt

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// Bounds of one group. Without them a steady stream of callers could keep the first one
// waiting for its commit forever.
const (
	maxGroupCalls = 128
	maxGroupBytes = 8 << 20
)

// pageFill is how full bbolt leaves a page that it splits. Nearly all new keys end in
// something that grows with time (sessions, their index, the audit log, users), so a page
// is final when the next one begins. bbolt's default of 0.5 is better only for keys in
// random order. Those are few: names of users and lists of their sessions.
const pageFill = 0.9

// A call is one Update on its way through the queue.
type call struct {
	ctx     context.Context
	fn      func(storage.Tx) error
	outcome storage.Outcome
	done    chan struct{} // closed when outcome is final

	claimed atomic.Bool
}

// claim reports whether the caller of claim decides about the call: its turn has come, or its caller leaves the queue.
func (c *call) claim() bool { return c.claimed.CompareAndSwap(false, true) }

// A group is the calls that share one bbolt transaction. Only the writer goroutine uses it.
type group struct {
	tx      *bbolt.Tx
	base    groupReader
	calls   []*call
	yielded bool  // the goroutines that could run were let to call
	bytes   int   // touched by the functions that wrote
	wrote   bool  // tx holds writes
	broken  error // tx must not be committed; the result of every call

	follower *follower       // gets writes; nil if there is none
	writes   []storage.Write // those of tx
	hot      []storage.Write // those of them that the memory can have
}

func (g *group) full() bool {
	return len(g.calls) >= maxGroupCalls || g.bytes >= maxGroupBytes || g.broken != nil
}

// write is the writer goroutine. It takes the waiting calls, commits them together and
// starts again, until the store stops. g is a group that another goroutine began.
func (s *Store) write(g *group) {
	stopped := false
	defer func() {
		if stopped {
			close(s.writerDone)
			return
		}
		// A function ended this goroutine (runtime.Goexit). Only its own caller must
		// notice, so a new goroutine continues with the group.
		go s.write(g)
	}()
	for {
		switch c := s.nextCall(g); {
		case c == nil && g == nil:
			stopped = true
			return
		case c == nil:
			s.finish(g)
			g = nil
		case !c.claim(): // its caller has left
		case c.ctx.Err() != nil:
			c.outcome.Fail(c.ctx.Err()) // fn has not run, so the context still decides
			close(c.done)
		default:
			if g == nil {
				g = s.beginGroup()
			}
			g.calls = append(g.calls, c)
			g.run(c)
		}
	}
}

// nextCall returns the next call. Without a group it waits for a call, and nil means that
// the store has stopped. With a group it takes only calls that already wait, or that goroutines make which
// can run now, and nil means that the group is complete.
func (s *Store) nextCall(g *group) *call {
	if g != nil {
		if g.full() {
			return nil
		}
		c := s.waitingCall()
		if c == nil && !g.yielded {
			g.yielded = true
			s.yield()
			c = s.waitingCall()
		}
		return c
	}
	select {
	case <-s.stopped: // checked first, because the next select chooses at random
		return nil
	default:
	}
	select {
	case c := <-s.calls:
		return c
	case <-s.stopped:
		return nil
	}
}

// longYield is how long a yield may take and be repeated at the next commit: half of the time for which Go lets a goroutine
// run while others wait.
const longYield = 5 * time.Millisecond

// yield lets goroutines that can run now make calls. It returns at once if none waits for a processor. While goroutines
// compute for long on all processors, such as hashes of passwords, each commit would wait for its turn behind them. After
// one has, none does for a hundred times as long.
func (s *Store) yield() {
	began := time.Now()
	if began.Before(s.yieldAgain) {
		return
	}
	runtime.Gosched()
	if took := time.Since(began); took > longYield {
		s.yieldAgain = began.Add(100 * took)
	}
}

// waitingCall returns a call that already waits, or nil.
func (s *Store) waitingCall() *call {
	select {
	case c := <-s.calls:
		return c
	default:
		return nil
	}
}

func (s *Store) beginGroup() *group {
	g := &group{follower: s.follower.Load()}
	g.broken = s.guard(func() (err error) {
		if g.tx, err = s.begin(true); err != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
		t, err := treeOf(g.tx)
		if err != nil {
			return err
		}
		bucket := g.tx.Bucket([]byte(bucketName))
		bucket.FillPercent = pageFill // bbolt keeps this for one transaction only
		t.checked = map[uint64]struct{}{}
		g.base = groupReader{s, t, bucket, bucket.Cursor(), map[string]struct{}{}}
		return nil
	})
	return g
}

// run runs one function on its own Overlay, and applies its writes if it succeeds.
func (g *group) run(c *call) {
	if g.broken != nil {
		return
	}
	tx := storage.NewOverlay(&g.base)
	defer tx.End()
	c.outcome.Run(tx, c.fn)
	if !c.outcome.OK() || !tx.Wrote() {
		return
	}
	g.wrote = true
	g.bytes += tx.Bytes()
	g.broken = g.apply(tx)
}

// apply copies the writes into the group's transaction. After an error that transaction holds
// only some of them and must not be committed.
func (g *group) apply(tx *storage.Overlay) error {
	return g.base.store.guard(func() error {
		for w := range tx.Writes() {
			if err := g.write(w); err != nil {
				return fmt.Errorf("apply writes: %w", err)
			}
			if g.follower != nil {
				g.writes = append(g.writes, w)
			}
			if holds := g.base.store.memory.holds; holds != nil && holds(w.Key) {
				g.hot = append(g.hot, w)
			}
		}
		return nil
	})
}

// write writes one record, after a check of the pages that bbolt reads for it now and in the
// commit.
func (g *group) write(w storage.Write) error {
	r := &g.base
	l, err := r.tree.verify(w.Key, w.Deleted)
	if err == nil && l.next != nil {
		_, err = r.tree.verify(string(l.next), w.Deleted) // a cursor moves there from the end of l
	}
	if err != nil {
		return err
	}
	r.written[w.Key] = struct{}{}
	if w.Deleted {
		return r.bucket.Delete([]byte(w.Key))
	}
	return r.bucket.Put([]byte(w.Key), w.Value)
}

// finish commits the group and ends its calls. Calls that failed or only read wait for the
// commit too: they may have read a write of the same group, and a result that depends on it
// must not be returned before that write is durable.
func (s *Store) finish(g *group) {
	err := s.commitGroup(g)
	for _, c := range g.calls {
		if err != nil {
			c.outcome.Fail(err)
		}
		close(c.done)
	}
}

// commitGroup ends the group's transaction. An error is the result of every call of the
// group; after nil each call has its own result.
func (s *Store) commitGroup(g *group) error {
	if failed := s.failed.Load(); failed != nil && g.broken == nil {
		g.broken = *failed // a function met damage, and perhaps returned nil
	}
	if g.broken != nil || !g.wrote {
		// Nothing is written, and everything that the functions read was synced before.
		if g.tx != nil {
			s.unlock(g.tx)
		}
		return g.broken
	}
	p := &pendingCommit{begun: time.Now(), done: make(chan struct{})}
	// The deferred close comes last: a View that it wakes must already see the new
	// synced or failed.
	defer close(p.done)
	s.pending.Store(p)
	txid := int64(g.tx.ID())
	// A crash from here until commitTx returns leaves all writes of the group or none.
	// No caller has its result yet, so each outcome is correct.
	err := s.reportCommit(g)
	switch {
	case err == nil:
		if g.follower != nil {
			g.follower.add(g.writes) // before a View can see them
		}
		s.memory.commit(txid, g.hot)
		s.synced.Store(txid)
		return nil
	case isNoSpace(err) && !s.showsUnsynced():
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	err = fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, err)
	s.fail(err)
	return err
}

// commitTx commits and syncs tx. bbolt checks its invariants with panics; a panic in the
// middle of a commit is an unknown outcome like any other failure.
func (s *Store) commitTx(tx *bbolt.Tx) error {
	committed := false
	err := contain(func() error {
		err := s.commit(tx)
		committed = true
		return err
	})
	if !committed {
		s.unlock(tx)
		return fmt.Errorf("commit panicked: %w", err)
	}
	return err
}

// unlock ends tx without a commit, and releases bbolt's writer lock. After a panic of bbolt that
// may be impossible, and then Close cannot wait for the lock.
func (s *Store) unlock(tx *bbolt.Tx) {
	if contain(tx.Rollback) != nil {
		s.unclosable.Store(true)
	}
}
