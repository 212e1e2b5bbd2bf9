package nodes

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
)

const (
	poll = 5 * time.Second
	skew = 10 * time.Second
)

// A cluster is some nodes of one store, in a bubble.
type cluster struct {
	t     *testing.T
	store storage.Store
	nodes []*Registry
}

// inCluster runs fn with nodes a, b, c … whose wall clocks are off by that much.
func inCluster(t *testing.T, fn func(c *cluster), off ...time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := &cluster{t: t, store: store}
		for _, d := range off {
			c.start(string(rune('a'+len(c.nodes))), d)
		}
		defer store.Close()
		fn(c)
	})
}

func (c *cluster) start(id string, off time.Duration) *Registry {
	r := New(Config{ID: id, Poll: poll, Skew: skew, Wall: func() time.Time { return time.Now().Add(off) }})
	c.nodes = append(c.nodes, r)
	return r
}

// beat lets nodes write and read once, in this order.
func (c *cluster) beat(nodes ...*Registry) {
	c.t.Helper()
	for _, r := range nodes {
		if err := errors.Join(
			c.store.Update(c.t.Context(), func(tx storage.Tx) error { return r.Put(tx, Facts{Algorithms: []string{"RS256", "EdDSA"}}) }),
			c.store.View(c.t.Context(), func(rd storage.Reader) error { _, err := r.Read(rd); return err }),
		); err != nil {
			c.t.Fatal(err)
		}
	}
}

// run lets nodes beat for a time.
func (c *cluster) run(d time.Duration, nodes ...*Registry) {
	c.t.Helper()
	for range d / poll {
		c.beat(nodes...)
		time.Sleep(poll)
	}
}

func (c *cluster) put(key, value string) {
	c.t.Helper()
	if err := c.store.Update(c.t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) get(key string) (value []byte) {
	c.t.Helper()
	err := c.store.View(c.t.Context(), func(rd storage.Reader) (err error) { value, err = rd.Get(key); return err })
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		c.t.Fatal(err)
	}
	return value
}

func ids(nodes []Node) string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.ID)
	}
	return strings.Join(names, " ")
}

func (c *cluster) wantLive(r *Registry, want string) {
	c.t.Helper()
	if got := ids(r.Live()); got != want || r.Count() != len(r.Live()) {
		c.t.Errorf("node %s sees %q and counts %d, want %q", r.ID(), got, r.Count(), want)
	}
}

func (c *cluster) hold(r *Registry, name string) bool {
	c.t.Helper()
	held, err := r.Hold(c.t.Context(), c.store, name)
	if err != nil {
		c.t.Fatal(err)
	}
	return held
}

func TestANodeIsLiveAsLongAsItBeats(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b, d := c.nodes[0], c.nodes[1], c.nodes[2]
		c.wantLive(a, "a")
		c.run(time.Minute, a, b, d)
		for _, r := range c.nodes {
			c.wantLive(r, "a b c")
		}
		c.run(3*poll, a, b)
		c.wantLive(a, "a b c") // c's last beat is 3p old
		c.run(2*poll, a, b)
		c.wantLive(a, "a b")
		c.run(2*poll, a, b, d) // it comes back
		c.wantLive(b, "a b c")
		if err := c.store.Update(c.t.Context(), b.Leave); err != nil {
			t.Fatal(err)
		}
		c.beat(a)
		c.wantLive(a, "a c")
	}, 0, 0, 0)
}

// TestAWrongClockHidesNoNode, and keeps no dead one alive.
func TestAWrongClockHidesNoNode(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, ahead, dead := c.nodes[0], c.nodes[1], c.nodes[2]
		c.beat(dead)
		c.run(3*poll, a, ahead)
		c.wantLive(a, "a b")
		c.wantLive(ahead, "a b c") // by its clock, the dead node's only beat is new
		c.run(4*poll, a, ahead)
		c.wantLive(ahead, "a b")
	}, 0, 24*time.Hour, 24*time.Hour)
}

func TestAFirstSightTrustsAFreshBeatOnly(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b := c.nodes[0], c.nodes[1]
		c.beat(a)
		c.beat(b)
		c.wantLive(b, "a b")
		time.Sleep(2*poll + skew + time.Second)
		late := c.start("z", 0)
		c.beat(late)
		c.wantLive(late, "z")
	}, 0, 0)
}

// TestAnOlderRecordMakesNoNodeLive: a writer of the store can put it back, again and again.
func TestAnOlderRecordMakesNoNodeLive(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b := c.nodes[0], c.nodes[1]
		c.run(2*poll, a, b)
		older := c.get("node/b")
		c.run(2*poll, a, b)
		newest := c.get("node/b")
		for range 6 {
			c.put("node/b", string(older))
			c.run(poll, a)
			c.put("node/b", string(newest))
			c.run(poll, a)
		}
		c.wantLive(a, "a")
	}, 0, 0)
}

func TestBeatsGoOnAfterARestart(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b := c.nodes[0], c.nodes[1]
		c.run(10*poll, a, b)
		again := c.start("b", -time.Hour)
		c.beat(a)
		c.beat(again, a)
		c.wantLive(a, "a b")
		if n := a.Live()[1]; n.Beats != 11 || n.Started.After(time.Now()) {
			t.Errorf("after a restart: %+v", n)
		}
	}, 0, 0)
}

// TestDamageStopsNoNode: a damaged record is no node, and its node writes it again.
func TestDamageStopsNoNode(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b := c.nodes[0], c.nodes[1]
		c.run(2*poll, a, b)
		c.put("node/b", `{"beats":1}`)
		c.beat(a)
		c.wantLive(a, "a")
		for n := range maxRead/50 + 1 { // before the key of each node
			if err := c.store.Update(c.t.Context(), func(tx storage.Tx) (err error) {
				for m := range 50 {
					err = errors.Join(err, tx.Put(fmt.Sprintf("node/!%d/%d", n, m), []byte("no node")))
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		c.run(3*poll, a, b)
		c.wantLive(a, "a") // too many records to find the others among them, and still no failure
		c.put("node/a", "also damaged")
		c.beat(a, b)
		if CheckRecord("node/a", c.get("node/a")) != nil || CheckRecord("node/b", c.get("node/b")) != nil {
			t.Error("a node does not write its damaged record again")
		}
	}, 0, 0)
}

func TestTheOffsetIsThatFromTheMedian(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  []time.Duration
		want []time.Duration
	}{
		{"all right", []time.Duration{0, 0, 0}, []time.Duration{0, 0, 0}},
		{"one a day ahead", []time.Duration{0, 24 * time.Hour, 0}, []time.Duration{0, 24 * time.Hour, 0}},
		{"one a day behind", []time.Duration{-24 * time.Hour, 0, 0}, []time.Duration{-24 * time.Hour, 0, 0}},
		{"two differ", []time.Duration{0, time.Hour}, []time.Duration{-time.Hour, time.Hour}},
		{"alone", []time.Duration{time.Hour}, []time.Duration{0}},
		{"one of four", []time.Duration{0, 0, time.Hour, 0}, []time.Duration{0, 0, time.Hour, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				if _, ok := c.nodes[0].Offset(); ok {
					t.Error("the offset is known before the first Read")
				}
				c.run(3*poll, c.nodes...)
				c.beat(c.nodes...)
				for n, r := range c.nodes {
					// A beat is seen up to p after it was made, so a difference is exact to p.
					if got, ok := r.Offset(); !ok || (got-tt.want[n]).Abs() > poll {
						t.Errorf("node %s: offset %v, %v; want %v", r.ID(), got, ok, tt.want[n])
					}
				}
			}, tt.off...)
		})
	}
}

func TestTheOffsetWaitsForTheSecondBeatOfANodeThatDiffers(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b := c.nodes[0], c.nodes[1]
		c.beat(b, a)
		if d, ok := a.Offset(); ok {
			t.Errorf("offset %v from a node that may be dead", d)
		}
		time.Sleep(poll)
		c.beat(b, a)
		if d, ok := a.Offset(); !ok || (d+time.Hour).Abs() > poll {
			t.Errorf("offset %v, %v", d, ok)
		}
		c.run(5*poll, a) // b is dead
		if d, ok := a.Offset(); !ok || d != 0 {
			t.Errorf("offset %v, %v without a live node", d, ok)
		}
	}, 0, time.Hour)
}

func TestANilRegistryIsTheOnlyNode(t *testing.T) {
	var r *Registry
	held, err := r.Hold(context.Background(), nil, "webhook")
	_, known := r.Offset()
	if len(r.Live()) != 1 || r.Count() != 1 || !held || err != nil || !known || r.ID() != "" ||
		r.Put(nil, Facts{}) != nil || r.Leave(nil) != nil || r.Release(t.Context(), nil) != nil || r.Forget(t.Context(), nil) != nil {
		t.Error("a nil Registry is not the only node")
	}
}
