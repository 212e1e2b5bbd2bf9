// Package retry counts in memory how often the successor of a refresh token was given out again within the
// grace, because such an answer writes nothing. The next rotation of the session stores the count in its
// record. Counts are lost in a crash and beyond 10,000 sessions. They are shown to administrators; no
// decision depends on them.
package retry

import (
	"math"
	"sync"

	"keymill/issuer/record"
)

const maxCounts = 10_000

// Counts are those of all sessions. The zero value is ready for use.
type Counts struct {
	mu     sync.Mutex
	counts map[record.ID]count // owned by mu
}

type count struct {
	generation uint32 // the current one at that time
	Count
}

// A Count is of one generation of one session.
type Count struct {
	Answers      uint16
	OtherAddress bool // one answer went to another address than the one that the generation was made for
}

// Add counts an answer with the token of a generation.
func (c *Counts) Add(id record.ID, generation uint32, otherAddress bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts[id]
	if n.generation > generation {
		return // this answer was late
	}
	if n.generation < generation {
		n = count{generation: generation}
	}
	if n.Answers < math.MaxUint16 {
		n.Answers++
	}
	n.OtherAddress = n.OtherAddress || otherAddress
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

// Get returns the count of a generation.
func (c *Counts) Get(id record.ID, generation uint32) Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.counts[id]; n.generation == generation {
		return n.Count
	}
	return Count{}
}

// Forget removes the count of a generation, which a rotation has stored.
func (c *Counts) Forget(id record.ID, generation uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[id].generation == generation {
		delete(c.counts, id)
	}
}
