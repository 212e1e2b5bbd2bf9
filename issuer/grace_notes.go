package issuer

import (
	"math"
	"net/netip"
	"sync"
)

// graces notes the answers within a grace, which write nothing, until the family's next
// rotation takes the note into its record. What a crash or the bound loses is a number
// that people look at, never a decision.
type graceNotes struct {
	mu    sync.Mutex
	notes map[familyID]graceNote // owned by mu
}

type graceNote struct {
	generation   uint32 // the current one then
	answers      uint16
	otherAddress bool // one of them went to another address than the one that made the generation
}

const maxGraceNotes = 10_000

// sharedGenerations in a row, each taken by two addresses, look like one token in two hands.
const sharedGenerations = 5

func (g *graceNotes) add(id familyID, generation uint32, otherAddress bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.notes[id]
	if n.generation > generation {
		return // whoever came late with this one
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

// fold takes a note into the record that is about to rotate, and tells whether the token
// has just come to look shared.
func (rec *familyRecord) addGrace(n graceNote) (shared bool) {
	rec.graced = uint16(min(math.MaxUint16, int(rec.graced)+int(n.answers)))
	if !n.otherAddress {
		if rec.shared < sharedGenerations { // a token that looked shared keeps looking so
			rec.shared = 0
		}
		return false
	}
	if rec.shared < math.MaxUint8 {
		rec.shared++
	}
	return rec.shared == sharedGenerations
}

// fingerprint stands for an address in a record: enough to tell two apart, useless to learn
// one from. An IPv6 subscriber has a /64.
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
