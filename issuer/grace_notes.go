package issuer

import (
	"math"
	"net/netip"
	"sync"
)

// graceNotes counts answers within a grace, which write nothing, until the next rotation of the
// family stores the count in its record. A crash and the limit lose counts. They are shown to
// administrators; no decision depends on them.
type graceNotes struct {
	mu    sync.Mutex
	notes map[familyID]graceNote // owned by mu
}

type graceNote struct {
	generation   uint32 // the current one at that time
	answers      uint16
	otherAddress bool // one answer went to another address than the one that the generation was made for
}

const maxGraceNotes = 10_000

// sharedGenerations in a row, each answered to two addresses, suggest that a token has two holders.
const sharedGenerations = 5

func (g *graceNotes) add(id familyID, generation uint32, otherAddress bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.notes[id]
	if n.generation > generation {
		return // this answer was late
	}
	if n.generation < generation {
		n = graceNote{generation: generation}
	}
	if n.answers < math.MaxUint16 {
		n.answers++
	}
	n.otherAddress = n.otherAddress || otherAddress
	if g.notes == nil {
		g.notes = make(map[familyID]graceNote)
	}
	if _, known := g.notes[id]; !known && len(g.notes) >= maxGraceNotes {
		for some := range g.notes {
			delete(g.notes, some)
			break
		}
	}
	g.notes[id] = n
}

func (g *graceNotes) get(id familyID, generation uint32) graceNote {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.notes[id]; n.generation == generation {
		return n
	}
	return graceNote{}
}

func (g *graceNotes) forget(id familyID, generation uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.notes[id].generation == generation {
		delete(g.notes, id)
	}
}

// addGrace adds a note to the record that is about to rotate. It reports whether the token looks
// shared from now on.
func (rec *familyRecord) addGrace(n graceNote) (shared bool) {
	rec.graced = uint16(min(math.MaxUint16, int(rec.graced)+int(n.answers)))
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

// fingerprint returns a short keyed hash of an address. Two addresses can be told apart by it, and
// neither can be learned from it. An IPv6 subscriber has a /64, so only that part counts.
func (s *refreshSecrets) fingerprint(from netip.Addr) [4]byte {
	if from = from.Unmap(); from.Is6() {
		p, _ := from.Prefix(64)
		from = p.Addr()
	}
	h := s.keys[s.newest]()
	h.Write([]byte("keymill address v1"))
	h.Write(from.AsSlice())
	return [4]byte(h.Sum(nil))
}
