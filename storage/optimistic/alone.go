package optimistic

import "time"

// A turn is the right to use the committer of a Store that has one. The loop has it while it settles a group, and a
// caller that is alone has it while it commits itself. That spares two changes of goroutine, which cost as much as some
// statements of a small commit do.
type turn struct {
	taken  chan struct{} // has room for one
	behind chan error    // to the loop that waits: the error of the caller before it, which the calls behind have as well
}

func newTurn() turn { return turn{make(chan struct{}, 1), make(chan error)} }

// try takes the turn if it is free.
func (t turn) try() bool {
	select {
	case t.taken <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait takes the turn for a call that the loop has. It returns an error instead that ends the call.
func (t turn) wait(c *call) error {
	if t.try() {
		return nil
	}
	timer := time.NewTimer(time.Until(c.sendBy))
	defer timer.Stop()
	select {
	case t.taken <- struct{}{}:
		return nil
	case away := <-t.behind:
		return away
	case <-timer.C:
		return errWaited
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// fail tells the loop, if it waits.
func (t turn) fail(away error) {
	select {
	case t.behind <- away:
	default:
	}
}

func (t turn) end() { <-t.taken }

// alone commits the call in its caller's goroutine, if it is the only Update. It reports whether it did so, and returns
// what try does. A function that has to run again goes to the committer. So does a call whose context has ended: it ends
// in the queue. A call whose reads took too long ends here, as it does in a group.
func (s *Store) alone(c *call) (done, again bool, err error) {
	if time.Now().After(c.sendBy) {
		return true, false, errWaited
	}
	if c.runs > 1 || !s.single() || s.updating.Load() > 1 || c.ctx.Err() != nil || !s.turn.try() {
		return false, false, nil
	}
	defer s.turn.end()
	g := newGroup(s.cache)
	if !g.holds(c) {
		return false, false, nil
	}
	g.add(c)
	stale, away, err := s.send(0, g)
	if stale != nil {
		for _, r := range stale.Records {
			s.cache.put(r)
		}
		return true, true, nil
	}
	if away != nil {
		drain(s.updates, func(c *call) { c.finish(away) })
		s.turn.fail(away) // after that, because the loop takes the next call then
	}
	return true, false, err
}
