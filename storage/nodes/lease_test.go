package nodes

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"keymill/storage"
)

func (c *cluster) holders(name string) (held string) {
	for _, r := range c.nodes {
		if c.hold(r, name) {
			held += r.ID()
		}
	}
	return held
}

func TestOneNodeHoldsALease(t *testing.T) {
	inCluster(t, func(c *cluster) {
		for range 100 {
			if held := c.holders("sweep"); held != "a" {
				t.Fatalf("%q hold the lease, want a", held)
			}
			time.Sleep(time.Second)
		}
		if held := c.hold(c.nodes[1], "webhook"); !held {
			t.Error("another lease is not free")
		}
	}, 0, 24*time.Hour, -24*time.Hour)
}

// TestALeaseLapses: the next holder waits until the last one cannot believe that it still holds it.
func TestALeaseLapses(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b := c.nodes[0], c.nodes[1]
		c.hold(a, "sweep")
		c.hold(b, "sweep")
		began := time.Now()
		for !c.hold(b, "sweep") {
			time.Sleep(time.Second)
		}
		if d := time.Since(began); d < 3*poll || d > 5*poll {
			t.Errorf("taken after %v", d)
		}
		if c.hold(a, "sweep") {
			t.Error("a node that was away holds the lease still")
		}
	}, 0, 24*time.Hour)
}

func TestACleanStopGivesLeasesBack(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b := c.nodes[0], c.nodes[1]
		c.hold(a, "sweep")
		c.hold(b, "sweep")
		if err := errors.Join(b.Release(c.t.Context(), c.store), a.Release(c.t.Context(), c.store)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(poll)
		if !c.hold(b, "sweep") || c.hold(a, "sweep") {
			t.Error("the lease was not given back")
		}
	}, 0, 0)
}

func TestADamagedLeaseCanBeTaken(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, b := c.nodes[0], c.nodes[1]
		c.hold(a, "sweep")
		c.put("lease/sweep", "damage")
		c.hold(b, "sweep")
		time.Sleep(poll)
		if c.hold(a, "sweep") || c.hold(b, "sweep") {
			t.Error("a damaged lease is taken at once")
		}
		time.Sleep(3 * poll)
		if held := c.holders("sweep"); len(held) != 1 {
			t.Errorf("%q hold the lease", held)
		}
		if err := CheckRecord("lease/sweep", c.get("lease/sweep")); err != nil {
			t.Error(err)
		}
	}, 0, 0)
}

func TestAStoreThatIsAwayEndsALease(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.hold(c.nodes[0], "sweep")
		time.Sleep(poll)
		store := failing{c.store}
		if held, err := c.nodes[0].Hold(c.t.Context(), store, "sweep"); held || err == nil {
			t.Errorf("held %v, %v", held, err)
		}
		if !c.hold(c.nodes[0], "sweep") {
			t.Error("the lease is lost after one failure")
		}
	}, 0)
}

// A failing store is away.
type failing struct{ storage.Store }

func (failing) Update(context.Context, func(storage.Tx) error) error {
	return errors.New("the store is away")
}

func TestNodesOfYesterdayAreForgotten(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a := c.nodes[0]
		for n := range 40 {
			c.beat(c.start(fmt.Sprintf("old%02d", n), 0))
		}
		c.put("node/broken", "damage")
		c.beat(a)
		time.Sleep(23 * time.Hour)
		c.run(4*poll, a)
		if err := a.Forget(c.t.Context(), c.store); err != nil {
			t.Fatal(err)
		}
		if c.get("node/old00") == nil {
			t.Error("a node is forgotten before a day")
		}
		time.Sleep(time.Hour)
		live := c.start("live", 48*time.Hour) // its clock does not matter
		c.run(4*poll, a, live)
		for _, r := range []*Registry{a, live} {
			if err := r.Forget(c.t.Context(), c.store); err != nil {
				t.Fatal(err)
			}
		}
		for e := range c.all() {
			if e.Key != "node/a" && e.Key != "node/live" {
				t.Errorf("%s is not forgotten", e.Key)
			}
		}
	}, 0)
}

func (c *cluster) all() func(func(storage.Entry) bool) {
	var found []storage.Entry
	if err := c.store.View(c.t.Context(), func(rd storage.Reader) error {
		found = nil
		for e, err := range rd.Scan(nodePrefix, storage.EndOf(nodePrefix)) {
			if err != nil {
				return err
			}
			found = append(found, e)
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	return func(yield func(storage.Entry) bool) {
		for _, e := range found {
			if !yield(e) {
				return
			}
		}
	}
}

func TestEveryRecordPassesItsCheck(t *testing.T) {
	inCluster(t, func(c *cluster) {
		long := New(Config{ID: "long", Poll: poll})
		if err := c.store.Update(c.t.Context(), func(tx storage.Tx) error {
			return long.Put(tx, Facts{Version: "v1\n", Host: string(make([]byte, 300))})
		}); err != nil {
			t.Fatal(err)
		}
		c.beat(c.nodes...)
		c.hold(c.nodes[0], "sweep")
		for _, key := range []string{"node/a", "node/long", "lease/sweep"} {
			value := c.get(key)
			if err := CheckRecord(key, value); err != nil {
				t.Error(err)
			}
			for _, bad := range []string{string(value) + " ", string(value[:len(value)-1]), "", "{}"} {
				if err := CheckRecord(key, []byte(bad)); !errors.Is(err, storage.ErrDamaged) {
					t.Errorf("%s accepts %q: %v", key, bad, err)
				}
			}
			if err := CheckRecord(key+"X", value); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("%sX: %v", key, err)
			}
		}
		bad := New(Config{ID: "Not/Valid"})
		if err := c.store.Update(c.t.Context(), func(tx storage.Tx) error { return bad.Put(tx, Facts{}) }); err == nil {
			t.Error("a node with an impossible id writes its record")
		}
	}, 0)
}
