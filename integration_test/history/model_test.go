package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Sizes of a world. Worlds have no record in common.
const (
	registers = 3
	counters  = 2
	places    = 2
)

// A state is the records of a world. 0 is a record that is absent.
type state struct {
	Registers [registers]int
	Counters  [counters]int
	Places    [places]int
}

// A request is one transaction.
type request struct {
	world int
	op    op
	at    int // register, counter or place
	with  int // another register, or what is written
}

// An op is what a transaction does. All but look and list are Updates.
type op byte

const (
	add      op = iota // adds 1 to a counter and returns it
	write              // writes a register that it does not read
	swap               // writes a register and returns what was there
	exchange           // exchanges two registers and returns both
	refuse             // reads two registers and ends with an error that has both
	claim              // takes a place if a scan finds none taken, and returns how many it found
	leave              // empties a place and returns whether it was taken
	look               // returns everything, read by key in a View
	list               // returns everything, scanned in a View
	ops
)

func (r request) String() string {
	name := [...]string{"add", "write", "swap", "exchange", "refuse", "claim", "leave", "look", "list"}[r.op]
	return fmt.Sprintf("%s(%d, %d)", name, r.at, r.with)
}

// An answer is what a transaction saw. Of look and list it is the whole state.
type answer struct {
	known bool // false: the outcome is unknown
	saw   [2]int
	all   state
}

// next returns the state after the request, and the answer.
func (s state) next(r request) (state, answer) {
	a := answer{known: true}
	switch r.op {
	case add:
		s.Counters[r.at]++
		a.saw[0] = s.Counters[r.at]
	case write:
		s.Registers[r.at] = r.with
	case swap:
		a.saw[0], s.Registers[r.at] = s.Registers[r.at], r.with
	case exchange:
		a.saw = [2]int{s.Registers[r.at], s.Registers[r.with]}
		s.Registers[r.at], s.Registers[r.with] = s.Registers[r.with], s.Registers[r.at]
	case refuse:
		a.saw = [2]int{s.Registers[r.at], s.Registers[r.with]}
	case claim:
		for _, taken := range s.Places {
			if taken != 0 {
				a.saw[0]++
			}
		}
		if a.saw[0] == 0 {
			s.Places[r.at] = r.with
		}
	case leave:
		a.saw[0], s.Places[r.at] = s.Places[r.at], 0
	case look, list:
		a.all = s
	}
	return s, a
}

// model is next in Porcupine's form. A step returns the states that are possible after a request and the
// answer that was seen, and none if that answer is impossible.
func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{}} },
		Step: func(from, input, output any) []any {
			before := from.(state)
			after, want := before.next(input.(request))
			switch output.(answer) {
			case answer{}:
				return []any{before, after}
			case want:
				return []any{after}
			}
			return nil
		},
		Hash: func(of any) uint64 {
			h := uint64(17)
			s := of.(state)
			for _, group := range [][]int{s.Registers[:], s.Counters[:], s.Places[:]} {
				for _, n := range group {
					h = h*1_000_003 + uint64(n)
				}
			}
			return h
		},
	}
	return m.ToModel()
}

// impossible returns the worlds whose answers do not fit any order of their requests.
func impossible(t *testing.T, history []porcupine.Operation) (worlds []int) {
	t.Helper()
	const limit = 2 * time.Minute // for one world, which takes a moment
	parts := map[int][]porcupine.Operation{}
	for _, op := range history {
		n := op.Input.(request).world
		parts[n] = append(parts[n], op)
	}
	for n, part := range parts {
		switch porcupine.CheckOperationsTimeout(model(), part, limit) {
		case porcupine.Illegal:
			worlds = append(worlds, n)
		case porcupine.Unknown:
			t.Errorf("world %d: the checker did not finish in %v", n, limit)
		}
	}
	return worlds
}
