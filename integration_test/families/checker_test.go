package families

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What one request of a history asked of one family.
type request struct {
	family     int
	revoke     bool   // else it is a refresh
	generation uint32 // that was presented
}

// What the one who asked saw.
type answer struct {
	kind       kind
	generation uint32 // that came back, if it was answered
}

type kind byte

const (
	unknown  kind = iota // no answer, or 503: it took place or it did not
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

// A standing is all that a family is while its grace never ends, or never begins.
type standing struct {
	dead    bool
	current uint32
}

// next is the table of answers for one request at a time.
func (s standing) next(r request, grace bool) (standing, answer) {
	switch {
	case r.revoke:
		return standing{true, s.current}, answer{kind: answered}
	case s.dead:
		return s, answer{kind: refused}
	case r.generation == s.current:
		return standing{false, s.current + 1}, answer{answered, s.current + 1}
	case grace && r.generation+1 == s.current:
		return s, answer{answered, s.current}
	}
	return standing{true, s.current}, answer{kind: refused}
}

// checker is Porcupine's form of the table: what a family can be after r was seen to be
// answered with a, nothing if that cannot have been.
func checker(grace bool) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: byFamily,
		Init:      func() []any { return []any{standing{}} },
		Step: func(state, input, output any) []any {
			before := state.(standing)
			after, want := before.next(input.(request), grace)
			switch output.(answer) {
			case answer{kind: unknown}:
				return []any{before, after}
			case want:
				return []any{after}
			}
			return nil
		},
		Hash: func(state any) uint64 {
			s := state.(standing)
			if s.dead {
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

// judge returns the families whose history no order of its requests explains.
func judge(t *testing.T, history []porcupine.Operation, grace bool) (guilty []int) {
	t.Helper()
	const limit = 20 * time.Minute // of one family, which takes seconds
	model := checker(grace)
	for _, part := range byFamily(history) {
		switch porcupine.CheckOperationsTimeout(model, part, limit) {
		case porcupine.Illegal:
			guilty = append(guilty, part[0].Input.(request).family)
		case porcupine.Unknown:
			t.Errorf("family %d: no verdict after %v", part[0].Input.(request).family, limit)
		}
	}
	return guilty
}

// TestTheCheckerSaysNo: what each seeded fault would look like from outside is refused,
// and the same history without the fault is not.
func TestTheCheckerSaysNo(t *testing.T) {
	refresh := func(generation uint32) request { return request{generation: generation} }
	revoke := request{revoke: true}
	yes := func(generation uint32) answer { return answer{answered, generation} }
	no, done, silence := answer{kind: refused}, answer{kind: answered}, answer{}
	type seen struct {
		request
		answer
	}
	for _, tt := range []struct {
		fault      string
		grace      bool
		history    []seen // one after the other
		good, evil seen
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
			[]seen{{refresh(0), silence}}, seen{refresh(0), yes(1)}, seen{refresh(0), no}},
		{"a revoked family comes back", true,
			[]seen{{revoke, done}}, seen{refresh(0), no}, seen{refresh(0), yes(1)}},
		{"a replay does not end the family", true,
			[]seen{{refresh(0), yes(1)}, {refresh(1), yes(2)}, {refresh(0), no}}, seen{refresh(2), no}, seen{refresh(2), yes(3)}},
		{"a revocation without an answer takes place, and then does not", true,
			[]seen{{revoke, silence}, {refresh(0), no}}, seen{refresh(0), no}, seen{refresh(0), yes(1)}},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			for last, guilty := range map[seen]bool{tt.good: false, tt.evil: true} {
				var history []porcupine.Operation
				for n, s := range append(slices.Clone(tt.history), last) {
					history = append(history, porcupine.Operation{
						Input: s.request, Output: s.answer, Call: int64(2 * n), Return: int64(2*n + 1),
					})
				}
				if got := judge(t, history, tt.grace); (len(got) > 0) != guilty {
					t.Errorf("%v, %v last: found guilty: %v", last.request, last.answer, !guilty)
				}
			}
		})
	}
}

// seedFault adds, to every family of a real history that has come to generation two, the
// first token once more, accepted. It returns how many families that makes guilty.
func seedFault(history []porcupine.Operation) (seeded []porcupine.Operation, guilty int) {
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
