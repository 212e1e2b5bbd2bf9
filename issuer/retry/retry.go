// Package retry counts in memory how often the successor of a refresh token was given out again within the
// grace, because such an answer writes nothing. The next rotation of the session by the same server stores the count in
// its record. Counts are lost in a crash and beyond 10,000 sessions. They are shown to administrators; no
// decision depends on them.
package retry

import (
	"sync"

	"keymill/issuer/record"
)

const maxCounts = 10_000

// Counts are those of all sessions. The zero value is ready for use.
type Counts struct {
	mu     sync.Mutex
	counts map[record.ID]count // owned by mu
}

// A count is of one generation of one session.
type count struct {
	generation uint32 // the current one at that time
	answers    int
}

// Add counts an answer with the token of a generation.
func (c *Counts) Add(id record.ID, generation uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts[id]
	if n.generation > generation {
		return // this answer was late
	}
	if n.generation < generation {
		n = count{generation: generation}
	}
	n.answers++
	if c.counts == nil {
		c.counts = make(map[record.ID]count)
	}
	if _, known := c.counts[id]; !known && len(c.counts) >= maxCounts {
		for some := range c.counts {
			delete(c.counts, some)
			break
		}
	}
	c.counts[id] = n
}

// Get returns how many answers with the token of a generation were counted.
func (c *Counts) Get(id record.ID, generation uint32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.counts[id]; n.generation == generation {
		return n.answers
	}
	return 0
}

// Forget removes the count of a generation, which a rotation has stored.
func (c *Counts) Forget(id record.ID, generation uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[id].generation == generation {
		delete(c.counts, id)
	}
}
