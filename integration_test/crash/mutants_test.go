package crash

import (
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

const judges = 3 // that work at once: a start waits for the disk, and a refused login for its time

// TestNoChangeOfAClosedStoreOpensADoor changes a closed store that has records of every kind, as damage
// and as an attacker without the master key would, and starts the server on each. Each start refuses in
// one line that names what is wrong, or serves exactly what was acknowledged.
//
// I23.
// I24.
// I25.
// I28.
func TestNoChangeOfAClosedStoreOpensADoor(t *testing.T) {
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv(caseVariable); path != "" {
		judgeAgain(t, path, binary)
		return
	}
	w := live(t, 0)
	n := counts.Of("store-mutations")
	began := time.Now()
	table := breedAndJudge(t, w, binary, uint64(time.Now().UnixNano()), n)
	t.Logf("counted: %d changed stores, each started once, in %v\n%s", table.judged, time.Since(began).Round(time.Second), table)
	for _, v := range table.violations {
		t.Error(v)
	}
}

// A results counts outcomes by kind of mutation.
type results struct {
	mu         sync.Mutex
	counts     map[string]*[outcomes]int
	violations []string
	judged     int
}

func (r *results) add(w *lived, m *mutant, v verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts[m.kind] == nil {
		r.counts[m.kind] = new([outcomes]int)
	}
	r.counts[m.kind][v.outcome]++
	r.judged++
	if v.outcome == violation {
		where := ""
		if len(r.violations) < maxKept {
			where = keepCase(w, m)
		}
		r.violations = append(r.violations, m.what+": "+v.why+"\n"+where)
	}
}

// String is the table.
func (r *results) String() string {
	var b strings.Builder
	row := func(name string, c [outcomes]int) {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", name, c[refused], c[whole], c[unavailable], c[unnoticed], c[violation])
	}
	b.WriteString("| change of the closed store | refused | served as acknowledged | 503 for what needs the record | not noticed, as documented | violations |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- |\n")
	var sum [outcomes]int
	for _, m := range mutations {
		if c := r.counts[m.name]; c != nil {
			row(m.name, *c)
			for n := range c {
				sum[n] += c[n]
			}
		}
	}
	row("all", sum)
	return b.String()
}

func newBreeder(t *testing.T, w *lived, seed uint64) *breeder {
	t.Helper()
	return &breeder{lived: w, random: mathrand.New(mathrand.NewPCG(seed, 0)), dir: t.TempDir()}
}

// breedAndJudge makes n mutants of one seed and judges each.
func breedAndJudge(t *testing.T, w *lived, binary string, seed uint64, n int) *results {
	t.Helper()
	b := newBreeder(t, w, seed)
	table := &results{counts: map[string]*[outcomes]int{}}
	mutants := make(chan *mutant, judges)
	var wg sync.WaitGroup
	for range judges {
		j := newJudge(t, w, binary)
		wg.Go(func() {
			for m := range mutants {
				table.add(w, m, j.judge(m))
			}
		})
	}
	end, limited := t.Deadline()
	turns := schedule()
	for i := range n {
		if limited && time.Until(end) < time.Minute {
			t.Errorf("-timeout ends the test after %d of %d changes", i, n)
			break
		}
		m, err := b.breed(turns[i%len(turns)])
		if err != nil {
			t.Errorf("turn %d: %v", i, err)
			break
		}
		mutants <- m
	}
	close(mutants)
	wg.Wait()
	return table
}
