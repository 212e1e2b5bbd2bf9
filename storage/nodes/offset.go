package nodes

import (
	"slices"
	"time"
)

// Offset returns by how much the own wall clock is ahead of the median of all live nodes, itself included. It is
// negative if the own clock is behind. Of an even number of nodes the middle one that differs more
// counts: if two nodes disagree, neither can know which of them is right.
//
// Offset is exact to the time between two Reads: a difference that this time explains is 0. It
// returns false if it cannot know yet: before the first Read, and for 2p after the first sight of a node
// whose clock differs, until another beat shows whether that node is live or left the record behind.
func (r *Registry) Offset() (time.Duration, bool) {
	if r == nil {
		return 0, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read.IsZero() {
		return 0, false
	}
	now, wall := time.Now(), r.wallTime()
	ahead := []time.Duration{0} // the own clock is not ahead of itself
	for _, s := range r.seen {
		switch {
		case !s.changed.IsZero():
			if r.read.Sub(s.changed) <= liveFor*r.poll {
				ahead = append(ahead, s.ahead(now, wall))
			}
		case r.isFresh(s, wall.Add(-now.Sub(s.first))):
			ahead = append(ahead, 0)
		case now.Sub(s.first) <= freshFor*r.poll:
			return 0, false
		}
	}
	slices.Sort(ahead)
	low, high := ahead[(len(ahead)-1)/2], ahead[len(ahead)/2]
	if low.Abs() > high.Abs() {
		return low, true
	}
	return high, true
}

// ahead returns by how much the own wall clock is ahead of that of another node. The node's clock was at
// Time at some moment of the last s.late before s.changed.
func (s *sighted) ahead(now, wall time.Time) time.Duration {
	most := wall.Sub(s.node.Time.Add(now.Sub(s.changed)))
	least := most - s.late
	switch {
	case least > 0:
		return least
	case most < 0:
		return most
	}
	return 0
}
