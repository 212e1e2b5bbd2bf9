package nodes

import (
	"context"
	"testing"
	"time"

	"keymill/storage"
)

// TestTheListShowsWhatANodeSees: who is live, whose clock differs, and who holds which lease. Damage is left out.
func TestTheListShowsWhatANodeSees(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, ahead, gone := c.nodes[0], c.nodes[1], c.start("gone", 0)
		c.run(4*poll, a, ahead, gone)
		c.run(6*poll, a, ahead)
		c.put("node/broken", "damage")
		c.put("lease/broken", "damage")
		c.hold(ahead, "webhook")
		c.hold(a, "chain")
		list, leases, err := a.List(c.t.Context(), c.store)
		if err != nil || len(list) != 3 || len(leases) != 2 {
			t.Fatalf("%d nodes, %d leases, %v", len(list), len(leases), err)
		}
		for n, want := range []struct {
			id        string
			live, own bool
			ahead     time.Duration
		}{{a.ID(), true, true, 0}, {ahead.ID(), true, false, 90 * time.Second}, {"gone", false, false, 0}} {
			l := list[n]
			if l.ID != want.id || l.Live != want.live || l.Own != want.own || !l.Known || (l.Ahead-want.ahead).Abs() > poll {
				t.Errorf("node %d is %+v, want %+v", n, l, want)
			}
			if l.Beats == 0 || l.Started.IsZero() || l.Time.Before(l.Started) {
				t.Errorf("node %d is %+v", n, l)
			}
		}
		if leases[0].Name != "chain" || leases[0].Node != a.ID() || leases[1].Name != "webhook" || leases[1].Node != ahead.ID() {
			t.Errorf("leases %+v", leases)
		}
		if none, leases, err := (*Registry)(nil).List(c.t.Context(), failing{c.store}); none != nil || leases != nil || err != nil {
			t.Errorf("without a Registry: %v, %v, %v", none, leases, err)
		}
		if _, _, err := a.List(c.t.Context(), away{c.store}); err == nil {
			t.Error("a store that is away has an empty list")
		}
	}, 0, 90*time.Second)
}

// An away store cannot be read.
type away struct{ storage.Store }

func (away) View(context.Context, func(storage.Reader) error) error { return storage.ErrUnavailable }
