package optimistic

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"keymill/storage"
)

// commitLoop is one committer. It takes the calls that wait, settles them together and starts again, until
// the Store is closed.
func (s *Store) commitLoop(committer int) {
	var held []*call
	last := 1 // calls of the last group
	for {
		g := newGroup(s.cache)
		for i, c := range held {
			if g.full() {
				g.held = append(g.held, held[i:]...)
				break
			}
			s.take(g, c)
		}
		if len(held) > 0 {
			s.fill(g)
		} else if !s.gather(g, last) {
			return
		}
		last = g.size()
		held = s.settle(committer, g)
		if s.single() && len(held) == 0 {
			s.turn.end()
		}
	}
}

// gather waits for a call, and for more of them if that keeps batches large. last is how many the last group had. It
// reports whether the Store is open.
func (s *Store) gather(g *group, last int) bool {
	s.pace.gather <- struct{}{}
	defer func() { <-s.pace.gather }()
	c, open := s.next()
	if !open {
		return false
	}
	s.take(g, c)
	letOthersJoin(last)
	s.fill(g)
	wanted, ended := s.pace.wanted()
	if g.size() >= wanted {
		return true
	}
	limit := time.NewTimer(longestGather)
	defer limit.Stop()
	for g.size() < wanted && !g.full() {
		select {
		case c, open := <-s.updates:
			if !open {
				return true // the next gather sees it
			}
			s.take(g, c)
		case <-ended:
			s.fill(g)
			return true
		case <-limit.C:
			return true
		}
	}
	return true
}

// next waits for a call, and for the turn to commit. It reports whether the Store is open.
func (s *Store) next() (c *call, open bool) {
	for {
		c, open = <-s.updates
		if !open || !s.single() {
			return c, open
		}
		err := s.turn.wait(c)
		if err == nil {
			return c, true
		}
		c.finish(err)
	}
}

// single reports whether the loop and callers that are alone share the committer.
func (s *Store) single() bool { return s.opts.Committers == 1 }

// take adds the call to the group, unless another committer has to end first.
func (s *Store) take(g *group, c *call) {
	if !s.traffic.divert(c) {
		g.take(c)
	}
}

// fill adds the calls that wait already.
func (s *Store) fill(g *group) {
	for !g.full() {
		select {
		case c, open := <-s.updates:
			if !open {
				return
			}
			s.take(g, c)
		default:
			return
		}
	}
}

// settle ends the calls of a group. It returns those that come with the next one.
func (s *Store) settle(committer int, g *group) (held []*call) {
	s.pace.begin(committer, len(g.calls))
	defer s.pace.end(committer)
	g, away := s.commit(committer, g)
	held = append(g.held, s.traffic.end(committer)...)
	if away != nil {
		held = append(append(held, g.late...), g.tired...)
	} else {
		for _, c := range g.late {
			c.again()
		}
		if len(g.tired) > 0 {
			away = s.exclusive(committer, g.tired)
		}
	}
	if away == nil {
		return held
	}
	finish(held, away)
	drain(s.updates, func(c *call) { finish([]*call{c}, away) })
	return nil
}

// commit writes the calls of a group, in as many tries as it takes, and ends those that were in the last try. It
// returns the group with the others, and the error that they have as well, or nil.
func (s *Store) commit(committer int, g *group) (_ *group, away error) {
	for len(g.calls) > 0 {
		s.traffic.begin(committer, g.writes)
		stale, away, err := s.send(committer, g)
		if stale != nil {
			g = g.next(stale)
			continue
		}
		finish(g.calls, err)
		return g, away
	}
	return g, nil
}

// send lets the Engine write the group. It returns what changed, or the error of the calls, and the error that those
// behind them have as well.
func (s *Store) send(committer int, g *group) (_ *Stale, away, err error) {
	b := g.batch()
	begun := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), until(g.calls))
	defer cancel()
	version, stale, err := s.engine.Commit(ctx, committer, b)
	s.health.note(err)
	s.committed(begun, b.Writes, len(g.calls))
	if err == nil && stale != nil {
		return stale, nil, nil
	}
	s.remember(b.Writes, version, err)
	if err != nil {
		s.cache.drop(b.Reads)
	}
	away = failureOfAll(err, begun)
	if len(b.Writes) == 0 {
		err = ofStore(err)
	}
	return nil, away, err
}

func (s *Store) committed(begun time.Time, writes []storage.Write, calls int) {
	if s.opts.Committed != nil && len(writes) > 0 {
		s.opts.Committed(time.Since(begun), calls)
	}
}

// remember keeps what was written, or forgets it if that is not known.
func (s *Store) remember(writes []storage.Write, version int64, err error) {
	for _, w := range writes {
		r := Record{Key: w.Key, Value: w.Value, Version: version}
		switch {
		case err != nil:
			s.cache.drop([]Record{r})
		case w.Deleted:
			s.cache.put(Record{Key: w.Key})
		default:
			s.cache.put(r)
		}
	}
}

func finish(calls []*call, err error) {
	for _, c := range calls {
		if !c.exited {
			c.finish(err)
		}
	}
}

// exclusive runs the functions of calls one after the other while no one else writes. Nothing has to be
// compared. It returns the error that the calls behind them have as well, or nil.
func (s *Store) exclusive(committer int, calls []*call) (away error) {
	var writes []storage.Write
	begun := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), until(calls))
	defer cancel()
	version, err := s.engine.Exclusive(ctx, committer, func(r storage.Reader) ([]storage.Write, error) {
		base := &exclusiveReader{base: r}
		base.prefetch(calls)
		all := storage.NewUnlimitedOverlay(base)
		defer all.End()
		for _, c := range calls {
			if err := c.runIn(all); err != nil {
				return nil, err
			}
		}
		writes = slices.Collect(all.Writes())
		return writes, base.failed
	})
	s.health.note(err)
	s.committed(begun, writes, len(calls))
	s.remember(writes, version, err)
	finish(calls, err)
	return failureOfAll(err, begun)
}

// runIn runs the function over the writes of the calls before it, and adds its own ones.
func (c *call) runIn(all *storage.Overlay) error {
	if c.exited {
		return nil // in an earlier run of this Exclusive
	}
	c.order(all)
	for _, w := range c.writes {
		if w.Deleted {
			if err := all.Delete(w.Key); err != nil {
				return err
			}
		} else if err := all.Put(w.Key, w.Value); err != nil {
			return err
		}
	}
	return nil
}

// An exclusiveReader is the Reader of Engine.Exclusive. It asks at the beginning for what the functions have
// read before, because other nodes wait.
type exclusiveReader struct {
	base   storage.Reader
	known  map[string][]byte // key → value; nil if there is no record
	failed error             // of the Engine, whatever the functions made of it
}

func (r *exclusiveReader) prefetch(calls []*call) {
	var keys []string
	for _, c := range calls {
		for _, rec := range c.last.records {
			keys = append(keys, rec.Key)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	values, err := r.base.GetAll(keys...)
	if err != nil {
		r.failed = err
		return
	}
	r.known = make(map[string][]byte, len(keys))
	for i, key := range keys {
		r.known[key] = values[i]
	}
}

// Get returns a copy.
func (r *exclusiveReader) Get(key string) ([]byte, error) {
	values, err := r.GetAll(key)
	switch {
	case err != nil:
		return nil, err
	case values[0] == nil:
		return nil, storage.ErrNotFound
	}
	return values[0], nil
}

// GetAll returns copies.
func (r *exclusiveReader) GetAll(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		if v, ok := r.known[key]; !ok {
			return r.getAll(keys)
		} else if v != nil {
			values[i] = clone(v)
		}
	}
	return values, nil
}

func (r *exclusiveReader) getAll(keys []string) ([][]byte, error) {
	if r.failed != nil {
		return nil, r.failed
	}
	values, err := r.base.GetAll(keys...)
	if err != nil {
		r.failed = err
	}
	return values, err
}

// Scan passes a damaged record on, and nothing fails because of it.
func (r *exclusiveReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range r.base.Scan(start, end) {
			if err != nil && !errors.Is(err, storage.ErrDamaged) {
				r.failed = err
			}
			if !yield(e, err) {
				return
			}
		}
	}
}
