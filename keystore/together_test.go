package keystore

import (
	"errors"
	"slices"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/nodes"
)

// spare returns the spare of a node.
func (n *node) spare(t *testing.T) Key {
	t.Helper()
	keys := n.snapshot.Load().rings[EdDSA].Keys
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Stage(n.Now()) == Spare })
	if i < 0 {
		t.Fatal("there is no spare")
	}
	return keys[i]
}

// TestServersThatStartTogetherCountTheDowntime: one that starts too has not served the set, so caches may not know the spare.
// The downtime counts once, whichever of them is first.
//
// I2.
func TestServersThatStartTogetherCountTheDowntime(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		time.Sleep(testPoll)
		signer := a.signer()
		stopped := a.Now()
		c.down(a, 3*time.Hour)

		// b has written its record and read nothing yet.
		b := nodes.New(nodes.Config{ID: "b", Poll: testPoll, Skew: testSkew})
		if err := a.Store().Update(t.Context(), func(tx storage.Tx) error { return b.Put(tx, nodes.Facts{}) }); err != nil {
			t.Fatal(err)
		}
		a = c.start("a")
		if got := a.signer(); got != signer {
			t.Errorf("the start beside one that starts too changed the signing key from %s to %s", signer, got)
		}
		// b has read the clock record before a started, and goes on now.
		a.mu.Lock() // as a tick
		err := a.reschedule(t.Context(), stopped, a.Now())
		a.mu.Unlock()
		if err := errors.Join(err, a.Reload(t.Context())); err != nil {
			t.Fatal(err)
		}
		if wait := a.spare(t).Sign.Sub(a.Now()); wait > 10*time.Minute {
			t.Errorf("the spare signs in %s: the downtime counts twice", wait)
		}
		c.down(a, 3*time.Hour)

		started := make(chan *node)
		for _, id := range []string{"a", "b"} {
			go func() {
				n, err := c.node(id, 0)
				if err != nil {
					t.Error(err)
				}
				started <- n
			}()
		}
		for range 2 {
			n := <-started
			if got := n.signer(); got != signer {
				t.Errorf("a start together with others changed the signing key from %s to %s", signer, got)
			}
		}
	})
}

// down stops the only node, and lets time pass.
func (c *cluster) down(n *node, d time.Duration) {
	c.t.Helper()
	n.stop()
	if err := n.Close(); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(d)
}
