package nodes

import (
	"fmt"
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
	low, high, ok := r.medians()
	if low.Abs() > high.Abs() {
		return low, ok
	}
	return high, ok
}

// CheckClock returns an error if the own wall clock differs from the median by more than skew. Of an even number of
// nodes two are in the middle. If the own clock agrees with one of them only, as with two nodes, then this node is
// wrong if it is the suspect: the one whose clock jumped, or that has just started. known is false while Offset is not known.
func (r *Registry) CheckClock(suspect bool) (known bool, err error) {
	low, high, known := r.medians()
	near, far := low, high
	if near.Abs() > far.Abs() {
		near, far = far, near
	}
	if !known || far.Abs() <= r.Skew() || near.Abs() <= r.Skew() && !suspect {
		return known, nil
	}
	side := "ahead of"
	if far < 0 {
		side = "behind"
	}
	return true, fmt.Errorf("the clock of this machine is %s %s the clocks of the other nodes; at most %s is allowed; set it", far.Abs().Round(time.Second), side, r.Skew())
}

// medians returns the two offsets in the middle, which are the same for an odd number of nodes.
func (r *Registry) medians() (low, high time.Duration, known bool) {
	if r == nil {
		return 0, 0, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read.IsZero() {
		return 0, 0, false
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
			return 0, 0, false
		}
	}
	slices.Sort(ahead)
	return ahead[(len(ahead)-1)/2], ahead[len(ahead)/2], true
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
