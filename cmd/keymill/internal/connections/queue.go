package connections

import "iter"

// A queue has the connections of one state, the oldest first. It needs no memory of its own, because each request moves
// its connection twice. l.mu of the Listener owns it.
type queue struct {
	first, last *conn
	len         int
}

// place is where a connection is.
type place struct {
	in            *queue // nil if it is in none
	before, after *conn
}

// add puts c at the end.
func (q *queue) add(c *conn) {
	c.place = place{in: q, before: q.last}
	if q.last == nil {
		q.first = c
	} else {
		q.last.place.after = c
	}
	q.last = c
	q.len++
}

// leave takes c out of its queue.
func (c *conn) leave() {
	p := c.place
	if p.in == nil {
		return
	}
	if p.before == nil {
		p.in.first = p.after
	} else {
		p.before.place.after = p.after
	}
	if p.after == nil {
		p.in.last = p.before
	} else {
		p.after.place.before = p.before
	}
	p.in.len--
	c.place = place{}
}

// all yields the connections, the oldest first. The one that is yielded may leave.
func (q *queue) all() iter.Seq[*conn] {
	return func(yield func(*conn) bool) {
		for c := q.first; c != nil; {
			next := c.place.after
			if !yield(c) {
				return
			}
			c = next
		}
	}
}
