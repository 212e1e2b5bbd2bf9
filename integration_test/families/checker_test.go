package families

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A request is one refresh or revocation of a family.
type request struct {
	family     int
	revoke     bool   // false means a refresh
	generation uint32 // of the token that was presented
}

// An answer is what the client received.
type answer struct {
	kind       kind
	generation uint32 // of the new token, if kind is answered
}

type kind byte

const (
	unknown  kind = iota // no answer, or 503: the request was executed or not
	answered             // 200
	refused              // invalid_grant
)

func (a answer) String() string {
	if a.kind == answered {
		return fmt.Sprintf("answered %d", a.generation)
	}
	return [...]string{"unknown", "answered", "refused"}[a.kind]
}

func (r request) String() string {
	if r.revoke {
		return fmt.Sprintf("family %d: revoke %d", r.family, r.generation)
	}
	return fmt.Sprintf("family %d: refresh %d", r.family, r.generation)
}

// A state is the whole state of a family whose grace never ends, or which has no grace.
type state struct {
	ended   bool
	current uint32
}

// next returns the answer to a request, and the state after it.
func (s state) next(r request, grace bool) (state, answer) {
	switch {
	case r.revoke:
		return state{true, s.current}, answer{kind: answered}
	case s.ended:
		return s, answer{kind: refused}
	case r.generation == s.current:
		return state{false, s.current + 1}, answer{answered, s.current + 1}
	case grace && r.generation+1 == s.current:
		return s, answer{answered, s.current}
	}
	return state{true, s.current}, answer{kind: refused}
}

// checker is next in Porcupine's form. A step returns the states that are possible after a request and
// the answer that was seen, and none if that answer is impossible.
func checker(grace bool) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: byFamily,
		Init:      func() []any { return []any{state{}} },
		Step: func(from, input, output any) []any {
			before := from.(state)
			after, want := before.next(input.(request), grace)
			switch output.(answer) {
			case answer{kind: unknown}:
				return []any{before, after}
			case want:
				return []any{after}
			}
			return nil
		},
		Hash: func(of any) uint64 {
			s := of.(state)
			if s.ended {
				return uint64(s.current) | 1<<63
			}
			return uint64(s.current)
		},
	}
	return m.ToModel()
}

func byFamily(history []porcupine.Operation) [][]porcupine.Operation {
	parts := map[int][]porcupine.Operation{}
	for _, op := range history {
		n := op.Input.(request).family
		parts[n] = append(parts[n], op)
	}
	var out [][]porcupine.Operation
	for _, part := range parts {
		out = append(out, part)
	}
	return out
}

// impossible returns the families whose answers do not fit any order of their requests.
func impossible(t *testing.T, history []porcupine.Operation, grace bool) (families []int) {
	t.Helper()
	const limit = 20 * time.Minute // for one family, which takes seconds
	model := checker(grace)
	for _, part := range byFamily(history) {
		switch porcupine.CheckOperationsTimeout(model, part, limit) {
		case porcupine.Illegal:
			families = append(families, part[0].Input.(request).family)
		case porcupine.Unknown:
			t.Errorf("family %d: the checker did not finish in %v", part[0].Input.(request).family, limit)
		}
	}
	return families
}

// TestTheCheckerFindsEverySeededFault: each fault is one wrong answer at the end of a history. The
// checker refuses that history, and accepts it with the right answer.
func TestTheCheckerFindsEverySeededFault(t *testing.T) {
	refresh := func(generation uint32) request { return request{generation: generation} }
	revoke := request{revoke: true}
	yes := func(generation uint32) answer { return answer{answered, generation} }
	no, done, lost := answer{kind: refused}, answer{kind: answered}, answer{}
	type seen struct {
		request
		answer
	}
	for _, tt := range []struct {
		fault        string
		grace        bool
		history      []seen // one after the other
		right, wrong seen   // the last request, with its right and its wrong answer
	}{
		{"a token is accepted twice", true,
			[]seen{{refresh(0), yes(1)}, {refresh(1), yes(2)}}, seen{refresh(0), no}, seen{refresh(0), yes(1)}},
		{"a token is accepted twice without a grace", false,
			[]seen{{refresh(0), yes(1)}}, seen{refresh(0), no}, seen{refresh(0), yes(1)}},
		{"a generation has two successors", true,
			[]seen{{refresh(0), yes(1)}}, seen{refresh(0), yes(1)}, seen{refresh(0), yes(2)}},
		{"an acknowledged rotation is lost", true,
			[]seen{{refresh(0), yes(1)}}, seen{refresh(1), yes(2)}, seen{refresh(1), no}},
		{"an honest retry ends the family", true,
			[]seen{{refresh(0), lost}}, seen{refresh(0), yes(1)}, seen{refresh(0), no}},
		{"a revoked family lives again", true,
			[]seen{{revoke, done}}, seen{refresh(0), no}, seen{refresh(0), yes(1)}},
		{"a replay does not end the family", true,
			[]seen{{refresh(0), yes(1)}, {refresh(1), yes(2)}, {refresh(0), no}}, seen{refresh(2), no}, seen{refresh(2), yes(3)}},
		{"a revocation without an answer is executed and then undone", true,
			[]seen{{revoke, lost}, {refresh(0), no}}, seen{refresh(0), no}, seen{refresh(0), yes(1)}},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			for last, wrong := range map[seen]bool{tt.right: false, tt.wrong: true} {
				var history []porcupine.Operation
				for n, s := range append(slices.Clone(tt.history), last) {
					history = append(history, porcupine.Operation{
						Input: s.request, Output: s.answer, Call: int64(2 * n), Return: int64(2*n + 1),
					})
				}
				if got := impossible(t, history, tt.grace); (len(got) > 0) != wrong {
					t.Errorf("a history that ends with %v, %v: the checker finds a fault: %v, want %v", last.request, last.answer, !wrong, wrong)
				}
			}
		})
	}
}

// seedFault adds a fault to every family of a real history that reached generation 2: its first token
// is accepted once more at the end. It returns the number of those families.
func seedFault(history []porcupine.Operation) (seeded []porcupine.Operation, families int) {
	seeded = slices.Clone(history)
	done := map[int]bool{}
	for _, op := range history {
		in, out := op.Input.(request), op.Output.(answer)
		if out.generation < 2 || done[in.family] {
			continue
		}
		done[in.family] = true
		seeded = append(seeded, porcupine.Operation{
			Input: request{family: in.family}, Output: answer{answered, 1}, Call: math.MaxInt64 - 1, Return: math.MaxInt64,
		})
	}
	return seeded, len(done)
}
