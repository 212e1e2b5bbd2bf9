package issuer

import (
	"math"
	"net/netip"
	"sync"

	"keymill/issuer/address"
)

// retryCounts counts answers within a grace in memory, because they write nothing. The next
// rotation of the family stores the count in its record. Counts are lost in a crash and beyond
// maxRetryCounts. They are shown to administrators; no decision depends on them.
type retryCounts struct {
	mu     sync.Mutex
	counts map[familyID]retryCount // owned by mu
}

type retryCount struct {
	generation   uint32 // the current one at that time
	answers      uint16
	otherAddress bool // one answer went to another address than the one that the generation was made for
}

const maxRetryCounts = 10_000

// sharedGenerations in a row, each answered to two addresses, suggest that a token has two holders.
const sharedGenerations = 5

func (c *retryCounts) add(id familyID, generation uint32, otherAddress bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts[id]
	if n.generation > generation {
		return // this answer was late
	}
	if n.generation < generation {
		n = retryCount{generation: generation}
	}
	if n.answers < math.MaxUint16 {
		n.answers++
	}
	n.otherAddress = n.otherAddress || otherAddress
	if c.counts == nil {
		c.counts = make(map[familyID]retryCount)
	}
	if _, known := c.counts[id]; !known && len(c.counts) >= maxRetryCounts {
		for some := range c.counts {
			delete(c.counts, some)
			break
		}
	}
	c.counts[id] = n
}

func (c *retryCounts) get(id familyID, generation uint32) retryCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.counts[id]; n.generation == generation {
		return n
	}
	return retryCount{}
}

func (c *retryCounts) forget(id familyID, generation uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[id].generation == generation {
		delete(c.counts, id)
	}
}

// addRetries adds a count to the record that is about to rotate. It reports whether the token looks
// shared from now on.
func (rec *familyRecord) addRetries(n retryCount) (shared bool) {
	rec.retries = uint16(min(math.MaxUint16, int(rec.retries)+int(n.answers)))
	if !n.otherAddress {
		if rec.shared < sharedGenerations { // a token that once looked shared stays so
			rec.shared = 0
		}
		return false
	}
	if rec.shared < math.MaxUint8 {
		rec.shared++
	}
	return rec.shared == sharedGenerations
}

// fingerprint returns a short keyed hash of an address. It shows whether two addresses differ, but
// not what they are. An IPv6 subscriber has a /64, so only that part counts.
func (s *refreshSecrets) fingerprint(from netip.Addr) [4]byte {
	h := s.keys[s.newest]()
	h.Write([]byte("keymill address v1"))
	h.Write(address.Subscriber(from).AsSlice())
	return [4]byte(h.Sum(nil))
}
