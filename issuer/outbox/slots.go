package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"keymill/storage"
)

const (
	// maxSince is how many events one server adds before it counts those of the store again. Another
	// server may have added as many since: see the package documentation.
	maxSince = 500
	// countAgain is how old a count is at least that a full outbox replaces: another server may have sent
	// events in the meantime.
	countAgain = 10 * time.Second
	// maxCounts is how often one call waits for a count. It is rarely more than one.
	maxCounts = 5
)

// A slotCounter counts the waiting events. The count is in memory: a count in the store
// would be one key that every deciding transaction writes. It is never too low as far as this server knows.
//
// A call of Update takes a slot for each event of its last run, and keeps them only if it may have
// committed. Calls belong to the period in which they began. A new period begins with each count, which
// waits for the calls of the one before:
//
//	    before        │        current
//	── calls ──▶ ended│
//	                  │ wait · read the store · used = stored + taken in the current period
type slotCounter struct {
	// counting is held for reading while an event is deleted, and for writing while events
	// are counted. Otherwise a count between the commit of a deletion and release would
	// release the slot twice.
	counting sync.RWMutex

	mu      sync.Mutex // owns what follows
	stored  int64      // events that the last count found, without those that this server has deleted since
	counted time.Time  // when the last count began
	before  *period    // what the last count waits for, or waited for without success; nil if it was successful
	current *period
	lost    int64 // events that found no free slot since they were last reported
}

// A period is the time between two counts.
type period struct {
	calls sync.WaitGroup // those that began in it
	taken int64          // slots of their events; owned by slotCounter.mu
}

// A call is one call of Update, over all its runs.
type call struct {
	slots  *slotCounter
	period *period
	counts int // how often it has waited for a count

	held int64 // slots that the current run has taken; owned by slots.mu, as is lost
	lost int64 // slots that it lacked
}

func (c *slotCounter) begin(counts int) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.calls.Add(1)
	return &call{slots: c, period: c.current, counts: counts}
}

// run begins a run. Those before it are discarded, with their slots.
func (l *call) run() {
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	l.discard()
}

func (l *call) discard() {
	l.period.taken -= l.held
	l.slots.lost -= l.lost
	l.held, l.lost = 0, 0
}

func (l *call) end(committed bool) {
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	if !committed {
		l.discard()
	}
	l.period.calls.Done()
}

// errStale ends a run that needs a count.
var errStale = errors.New("the waiting events of the webhook have to be counted")

// acquire takes a slot for one more event and reports whether one was free.
func (l *call) acquire() (bool, error) {
	c := l.slots
	c.mu.Lock()
	defer c.mu.Unlock()
	since := c.since()
	full := c.stored+since >= maxEvents
	if l.counts < maxCounts && (since >= maxSince || full && time.Since(c.counted) >= countAgain) {
		return false, errStale
	}
	if full || since >= maxSince {
		c.lost++
		l.lost++
		return false, nil
	}
	l.period.taken++
	l.held++
	return true, nil
}

// since returns how many slots were taken since the last successful count began. The caller holds mu.
func (c *slotCounter) since() int64 {
	if c.before == nil {
		return c.current.taken
	}
	return c.before.taken + c.current.taken
}

func (c *slotCounter) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stored--
}

// inUse returns how many slots are in use.
func (c *slotCounter) inUse() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stored + c.since()
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

// split begins a period and returns the one before. After a count that has failed it returns the same again.
func (c *slotCounter) split() *period {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.before == nil {
		c.before, c.current = c.current, &period{}
	}
	return c.before
}

// recount counts the events of the store. Those of the calls that have begun by now are stored or will never be
// once these calls have ended. Slots that later calls take are in use whether or not the store shows their
// events already.
func (o *Outbox) recount(ctx context.Context) error {
	c := &o.slots
	c.counting.Lock()
	defer c.counting.Unlock()
	return o.recountLocked(ctx)
}

func (o *Outbox) recountLocked(ctx context.Context) error {
	c := &o.slots
	began, before := time.Now(), c.split()
	if err := before.wait(ctx); err != nil {
		return err
	}
	stored, err := o.count(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stored, c.counted, c.before = stored, began, nil
	return nil
}

// wait waits for the calls of a period.
func (p *period) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	ended := make(chan struct{})
	go func() {
		p.calls.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recountSince counts, unless another call has begun to since then.
func (o *Outbox) recountSince(ctx context.Context, began time.Time) error {
	c := &o.slots
	c.counting.Lock()
	defer c.counting.Unlock()
	c.mu.Lock()
	fresh := c.counted.After(began)
	c.mu.Unlock()
	if fresh {
		return nil
	}
	return o.recountLocked(ctx)
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

// Over returns s, with transactions that Add can write events in. o may be nil.
func (o *Outbox) Over(s storage.Store) storage.Store {
	if o == nil {
		return s
	}
	return store{s, o}
}

// A store tells its Outbox which runs of a function count.
type store struct {
	storage.Store
	outbox *Outbox
}

// A transaction is that of one run of a call.
type transaction struct {
	storage.Tx
	call *call
}

// Update implements storage.Store. A function whose events need a count first runs again after it.
func (s store) Update(ctx context.Context, fn func(storage.Tx) error) error {
	for counts := 0; ; counts++ {
		began := time.Now()
		err := s.try(ctx, counts, fn)
		if !errors.Is(err, errStale) {
			return err
		}
		if err := s.outbox.recountSince(ctx, began); err != nil {
			counts = maxCounts // the events are lost, and the decision is not
		}
	}
}

func (s store) try(ctx context.Context, counts int, fn func(storage.Tx) error) (err error) {
	l, committed := s.outbox.slots.begin(counts), false
	defer func() { l.end(committed) }()
	err = s.Store.Update(ctx, func(tx storage.Tx) error {
		l.run()
		return fn(transaction{tx, l})
	})
	committed = err == nil || errors.Is(err, storage.ErrUnknownOutcome)
	return err
}
