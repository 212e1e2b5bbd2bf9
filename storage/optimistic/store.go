package optimistic

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"keymill/storage"
)

// Options configures a Store.
type Options struct {
	// Committers is how many batches with writes can be under way at once, and Fetchers how many Fetches. 0 means 1,
	// which takes the least processor time. 2 write more if a trip to the Engine takes milliseconds.
	Committers, Fetchers int

	// Deadline is how long a call waits for the Engine in all, behind other calls and for its own requests. 0 means 10 s.
	Deadline time.Duration

	CacheBytes int64 // memory for records; 0 means 64 MiB, less than 0 means that none are kept

	// Committed is called after each Commit with writes and each Exclusive, also a failed one: how long it
	// took, and how many calls shared it. Many goroutines may call it at once. It returns at once. It may be nil.
	Committed func(took time.Duration, calls int)
}

// withDefaults returns the options with the values that 0 stands for.
func (o Options) withDefaults() Options {
	if o.Committers == 0 {
		o.Committers = 1
	}
	if o.Fetchers == 0 {
		o.Fetchers = 1
	}
	if o.Deadline == 0 {
		o.Deadline = 10 * time.Second
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	return o
}

// A Store is a storage.Store in an Engine.
type Store struct {
	engine Engine
	opts   Options
	cache  *cache
	health health

	traffic *traffic
	pace    *pace
	turn    turn // used if there is one committer

	updating atomic.Int64 // Updates under way

	// Queues. updates and fetches are unbuffered: what waits in them is the callers that wait to send. A View waits for its
	// result only after it has worked ahead, so views has room.
	updates chan *call
	views   chan *check
	fetches chan *request

	mu      sync.Mutex
	closed  bool           // guarded by mu
	running sync.WaitGroup // transactions; Add is guarded by mu
	loops   sync.WaitGroup // goroutines of the Store
	closing sync.Once
	err     error // of closing the Engine; written in closing
}

// New returns a Store that owns the Engine.
func New(e Engine, o Options) *Store {
	o = o.withDefaults()
	s := &Store{
		engine:  e,
		opts:    o,
		cache:   newCache(o.CacheBytes),
		health:  health{bytes: -1},
		traffic: newTraffic(o.Committers),
		pace:    newPace(),
		turn:    newTurn(),
		updates: make(chan *call),
		views:   make(chan *check, maxGroupCalls),
		fetches: make(chan *request),
	}
	for range o.Fetchers {
		s.loops.Go(s.fetchLoop)
	}
	for committer := range o.Committers {
		s.loops.Go(func() { s.commitLoop(committer) })
	}
	s.loops.Go(s.viewLoop)
	return s
}

// Update runs fn on cached records and returns once a batch with what it read and wrote is durable. A
// context that ends while fn runs or the call waits in the queue ends the call. Once a committer has
// taken it, only the batch decides, because the caller must not be told that writes failed which
// may become durable.
func (s *Store) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.running.Done()
	s.updating.Add(1)
	defer s.updating.Add(-1)
	c := s.newCall(ctx, fn)
	for again := true; again; {
		var err error
		if again, err = s.try(c); err != nil {
			return err
		}
	}
	return c.outcome.Return()
}

// try runs the function of c once, and waits for the result of its group. It reports whether
// the function has to run again.
func (s *Store) try(c *call) (again bool, err error) {
	if err := c.ctx.Err(); err != nil {
		return false, err
	}
	c.diverted = false
	c.run(&run{known: s.cache.get, store: s, ctx: c.ctx, until: c.until})
	if err := c.last.failed; err != nil {
		return false, err // whatever the function made of it
	}
	if !c.last.reads() && len(c.writes) == 0 {
		return false, nil
	}
	if done, again, err := s.alone(c); done {
		return again, err
	}
	if err := send(c.ctx, c.sendBy, s.updates, c); err != nil {
		return false, err
	}
	for {
		o := <-c.orders
		if o.run == nil {
			return o.again, o.err
		}
		c.obey(o)
	}
}

// begin counts a transaction, so that Close waits for it.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	s.running.Add(1)
	return nil
}

// Close refuses new transactions with storage.ErrClosed, waits for the running ones, which end as ever, and
// closes the Engine.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.running.Wait()
		close(s.updates) // no transaction is left that could send
		close(s.views)
		close(s.fetches)
		s.loops.Wait()
		s.err = s.engine.Close()
	})
	return s.err
}
