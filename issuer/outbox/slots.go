package outbox

import (
	"context"
	"sync"

	"keymill/storage"
)

// A slotCounter counts the waiting events. The count is in memory: a count in the store
// would be one key that every deciding transaction writes. It is never too low. It may be
// too high until the next recount, because Add acquires a slot before it is known whether
// its transaction commits.
type slotCounter struct {
	// counting is held for reading while an event is deleted, and for writing while events
	// are counted. Otherwise a count between the commit of a deletion and release would
	// release the slot twice.
	counting sync.RWMutex

	mu       sync.Mutex // owns what follows
	acquired int64      // slots that were ever acquired
	released int64      // slots that were ever released; the difference is in use
	lost     int64      // events that found no free slot since they were last reported
}

// acquire acquires a slot for one more event and reports whether one was free.
func (c *slotCounter) acquire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acquired-c.released >= maxEvents {
		c.lost++
		return false
	}
	c.acquired++
	return true
}

func (c *slotCounter) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released++
}

// inUse returns how many slots were ever acquired, and how many are in use.
func (c *slotCounter) inUse() (acquired, used int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acquired, c.acquired - c.released
}

func (c *slotCounter) lostEvents() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

func (c *slotCounter) reported(lost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost -= lost
}

// recount releases the slots of transactions that failed or ran more than once. A slot that
// is acquired after the count began is counted as used, whether or not the scan sees its
// event.
func (o *Outbox) recount(ctx context.Context) error {
	c := &o.slots
	c.counting.Lock()
	defer c.counting.Unlock()
	acquired, _ := c.inUse()
	// The store answers every transaction that has acquired a slot by now before this one,
	// which writes nothing. So the scan sees all of their events.
	if err := o.cfg.Store.Update(ctx, func(storage.Tx) error { return nil }); err != nil {
		return err
	}
	stored, err := o.count(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released = acquired - stored
	return nil
}

// count returns how many events are stored, without the damaged ones. It reads them page by page.
func (o *Outbox) count(ctx context.Context) (int64, error) {
	stored, last := int64(0), ""
	for {
		page, err := o.Events(ctx, last, maxPage)
		if stored += int64(len(page)); err != nil || len(page) < maxPage {
			return stored, err
		}
		last = page[len(page)-1].ID
	}
}
