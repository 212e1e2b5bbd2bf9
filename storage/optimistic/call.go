package optimistic

import (
	"context"
	"slices"
	"time"

	"keymill/storage"
)

// maxRuns is how often a function runs on cached records. After that it runs once more, in
// Engine.Exclusive.
const maxRuns = 8

// A call is one Update. Its caller's goroutine has it while the function runs, and a committer has it
// from the queue on, except during an order.
type call struct {
	ctx    context.Context
	fn     func(storage.Tx) error
	orders chan order // from the committer; has room for one
	until  time.Time  // when its caller no longer waits for the Engine
	sendBy time.Time  // when a batch no longer takes it, because the Engine needs time for the batch

	runs    int             // how often the function has run
	last    *run            // what it read in the last run
	outcome storage.Outcome // of the last run
	writes  []storage.Write // of the last run, in key order; none if it did not succeed
	bytes   int             // that the last run touched
	exited  bool            // the function ended the caller's goroutine, so no one waits

	diverted bool // it has waited for a committer, see traffic
}

func (s *Store) newCall(ctx context.Context, fn func(storage.Tx) error) *call {
	now, all := time.Now(), s.opts.Deadline
	return &call{ctx: ctx, fn: fn, orders: make(chan order, 1), until: now.Add(all), sendBy: now.Add(all - all/leastForBatch)}
}

// An order tells the caller's goroutine what to do. Without a run the call has left its group.
type order struct {
	run  storage.Reader // the function runs on it at once
	done chan struct{}  // closed after that

	again bool  // the caller has to run the function again
	err   error // the result, if it is not that of the function
}

// run runs the function once.
func (c *call) run(base *run) {
	c.last = base
	c.runOn(base)
}

// runOn runs the function on any Reader.
func (c *call) runOn(base storage.Reader) {
	tx := storage.NewOverlay(base)
	defer tx.End()
	c.runs++
	c.writes, c.bytes = nil, 0
	c.exited = true
	c.outcome.Run(tx, c.fn)
	c.exited = false
	if c.outcome.OK() && tx.Wrote() {
		c.writes = slices.Collect(tx.Writes())
	}
	c.bytes = tx.Bytes()
}

// hasRead reports whether the last run has read one of the records.
func (c *call) hasRead(writes map[string]storage.Write) bool {
	return slices.ContainsFunc(c.last.records, func(r Record) bool {
		_, ok := writes[r.Key]
		return ok
	})
}

// obey runs the function in its caller's goroutine for a committer, which waits.
func (c *call) obey(o order) {
	defer close(o.done)
	c.runOn(o.run)
}

// order makes the caller run the function on base, and waits for it.
func (c *call) order(base storage.Reader) {
	o := order{run: base, done: make(chan struct{})}
	c.orders <- o
	<-o.done
}

// finish ends the call with the result of the last run, or with err.
func (c *call) finish(err error) { c.orders <- order{err: err} }

// again makes the caller run the function again.
func (c *call) again() { c.orders <- order{again: true} }
