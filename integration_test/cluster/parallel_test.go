package cluster

import (
	"sync"
	"testing"

	"keymill/integration_test/counts"
)

// TestOneTokenHasOneSuccessor: fifty refreshes of one token at once, over three nodes, all get the same successor.
func TestOneTokenHasOneSuccessor(t *testing.T) {
	const parallel = 50
	w := start(t)
	token, err := w.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rounds := counts.Of("cluster-parallel")
	for round := range rounds {
		var mu sync.Mutex
		successors := map[string]int{} // owned by mu
		var done sync.WaitGroup
		for n := range parallel {
			done.Go(func() {
				g, err := w.refresh(t.Context(), 1+n%3, token)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				successors[g.Refresh]++
			})
		}
		done.Wait()
		if len(successors) != 1 || t.Failed() {
			t.Fatalf("round %d: %d successors", round, len(successors))
		}
		for token = range successors {
		}
	}
	t.Logf("counted: %d rounds of %d refreshes of one token over three nodes, one successor each", rounds, parallel)
}
