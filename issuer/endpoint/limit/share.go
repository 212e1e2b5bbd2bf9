package limit

// A Share divides limits among the servers of one store. Each counts for itself, so an attacker who reaches all of
// them has all shares together. nil stands for one server; otherwise it returns how many are live, at least 1.
//
// After another server starts, failures that were counted before can exceed the smaller share: the sum
// over all servers then ends at what they had counted and the share of the new one, for one Window.
type Share func() int

// of returns the share of a limit, at least 1.
func (s Share) of(limit int) int {
	if s == nil {
		return limit
	}
	return max(1, limit/max(1, s()))
}
