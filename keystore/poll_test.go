package keystore

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/nodes"
)

const (
	testPoll = 5 * time.Second
	testSkew = 10 * time.Second
)

// A cluster is several servers of one store.
type cluster struct {
	t     *testing.T
	store storage.Store
	cfg   Config
}

// A node is one of them.
type node struct {
	*Rings
	off  atomic.Int64 // wall clock − correct time
	away atomic.Bool  // the node cannot reach the store
	end  context.CancelFunc
	done chan struct{}
}

// inCluster calls fn in a bubble with a new store.
func inCluster(t *testing.T, fn func(*testing.T, *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, quickDir(t)+"/db")
		master, _ := NewMasterKey()
		c := &cluster{t, s, Config{
			Algorithms: []string{EdDSA}, RotateEvery: time.Hour, Propagation: 10 * time.Minute, MaxAge: time.Minute, Master: master,
		}}
		create(t, s, c.cfg)
		fn(t, c)
	})
}

// node returns a node that does not run yet.
func (c *cluster) node(id string, off time.Duration, change ...func(*Config)) (*node, error) {
	return c.nodeOf(nodes.Config{ID: id, Poll: testPoll, Skew: testSkew}, off, change...)
}

func (c *cluster) nodeOf(registry nodes.Config, off time.Duration, change ...func(*Config)) (*node, error) {
	n := new(node)
	n.off.Store(int64(off))
	wall := func() time.Time { return time.Now().Add(time.Duration(n.off.Load())) }
	cfg := c.cfg
	registry.Wall = wall
	cfg.Nodes = nodes.New(registry)
	for _, f := range change {
		f(&cfg)
	}
	var err error
	n.Rings, err = open(c.t.Context(), outage{c.store, &n.away}, cfg, wall)
	return n, err
}

// start returns a node that runs until the test ends, or stop.
func (c *cluster) start(id string, change ...func(*Config)) *node {
	c.t.Helper()
	n, err := c.node(id, 0, change...)
	if err != nil {
		c.t.Fatal(err)
	}
	n.run(c.t)
	return n
}

func (n *node) run(t *testing.T) {
	var ctx context.Context
	ctx, n.end = context.WithCancel(context.Background())
	n.done = make(chan struct{})
	go func() { defer close(n.done); n.Run(ctx) }()
	t.Cleanup(n.stop)
}

func (n *node) stop() {
	n.end()
	<-n.done
}

// An outage is a store that cannot be reached while away is set.
type outage struct {
	storage.Store
	away *atomic.Bool
}

func (o outage) View(ctx context.Context, fn func(storage.Reader) error) error {
	if o.away.Load() {
		return storage.ErrUnavailable
	}
	return o.Store.View(ctx, fn)
}

func (o outage) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if o.away.Load() {
		return storage.ErrUnavailable
	}
	return o.Store.Update(ctx, fn)
}

// raise lets tokens live for an hour.
func (c *cluster) raise(n *node) {
	c.t.Helper()
	raise(c.t, n.Rings, EdDSA, time.Hour)
}

// signer returns the kid with which a node signs now, or "".
func (n *node) signer() string {
	_, kid, err := n.activeSigner(EdDSA, time.Time{})
	if err != nil {
		return ""
	}
	return kid
}

func publishedBy(n *node) (kids []string) {
	for _, k := range n.Published() {
		kids = append(kids, k.KID)
	}
	return kids
}

// TestANodeSeesTheChangesOfAnother within p: keys that were added or revoked there, the schedule, and the clocks.
func TestANodeSeesTheChangesOfAnother(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		b := c.start("b")
		time.Sleep(time.Minute)
		old := a.signer()
		if old == "" || b.signer() != old {
			t.Fatalf("the nodes sign with %q and %q", old, b.signer())
		}
		if _, err := a.Revoke(t.Context(), RevokeRequest{KID: old}, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(testPoll + time.Second)
		if kids := strings.Join(publishedBy(b), " "); kids != strings.Join(publishedBy(a), " ") || strings.Contains(kids, old) {
			t.Errorf("a publishes %v, b %v; revoked is %s", publishedBy(a), publishedBy(b), old)
		}
		if kid := b.signer(); kid == "" || kid != a.signer() {
			t.Errorf("a signs with %q, b with %q", a.signer(), kid)
		}
	})
}

// TestANodeKeepsItsSnapshotWhileNothingChanges: a poll compares the records first.
func TestANodeKeepsItsSnapshotWhileNothingChanges(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		c.start("b")
		time.Sleep(time.Minute)
		before := a.snapshot.Load()
		time.Sleep(10 * time.Minute)
		if a.snapshot.Load() != before {
			t.Error("the snapshot was made again, although no key changed")
		}
	})
}

// TestANodeThatCannotReadTheStoreStopsSigning after 3p, and signs again after the next read.
func TestANodeThatCannotReadTheStoreStopsSigning(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		b := c.start("b")
		c.raise(a)
		time.Sleep(time.Minute)
		b.away.Store(true)
		began := time.Now()
		var err error
		for err == nil && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
			_, err = b.Sign(t.Context(), EdDSA, "at+jwt", []byte("{}"), time.Now())
		}
		d := time.Since(began)
		var unavailable *UnavailableError
		if !errors.As(err, &unavailable) || !errors.Is(err, storage.ErrUnavailable) || unavailable.RetryAfter <= 0 {
			t.Errorf("after %v: %v", d, err)
		}
		if d < 2*testPoll || d > 3*testPoll {
			t.Errorf("the node signed for %v without the store", d)
		}
		if st := b.Status(); st.Ready || !strings.Contains(strings.Join(st.Issues, "\n"), "last read") {
			t.Errorf("status %+v", st)
		}
		first := b.Current()
		time.Sleep(2 * testPoll)
		if later := b.Current(); later == nil || later.Error() != first.Error() {
			t.Errorf("the log has a line for each text: %v, then %v", first, later)
		}
		if err := b.Ready(EdDSA); err == nil {
			t.Error("the node is ready to sign")
		}
		if a.signer() == "" || !a.Status().Ready {
			t.Error("the other node stopped too")
		}
		b.away.Store(false)
		time.Sleep(2 * testPoll)
		if b.signer() == "" || !b.Status().Ready {
			t.Errorf("the node does not sign again: %+v", b.Status())
		}
	})
}

// TestANodeThatWasPausedReadsBeforeItSigns: a pause that ends after 3p ends with a refusal, not with a token.
func TestANodeThatWasPausedReadsBeforeItSigns(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		time.Sleep(time.Minute)
		a.stop() // as a paused process, it reads nothing
		time.Sleep(3*testPoll + time.Second)
		if kid := a.signer(); kid != "" {
			t.Errorf("it signs with %s", kid)
		}
		a.run(t)
		synctest.Wait()
		if kid := a.signer(); kid != "" || a.Current() == nil {
			t.Errorf("it answers requests that waited in its sockets, with %s", kid)
		}
		time.Sleep(settle + time.Millisecond)
		if a.signer() == "" || a.Current() != nil {
			t.Error("it does not sign again")
		}
	})
}

// TestTheRecordOfANodeSaysWhatItHasRead: the version of the keys of the others is the newest after p.
func TestTheRecordOfANodeSaysWhatItHasRead(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a, b := c.start("a"), c.start("b")
		time.Sleep(time.Minute)
		c.raise(a)
		if version := a.version(); len(b.cfg.Nodes.Behind(version)) == 0 {
			t.Error("a node has read a change before it was made")
		}
		time.Sleep(2*testPoll + time.Second)
		if ids := b.cfg.Nodes.Behind(a.version()); len(ids) > 0 {
			t.Errorf("%v have not read the change", ids)
		}
		n := b.cfg.Nodes.Live()[0]
		if n.ID != "a" || n.MaxAge != time.Minute || n.Propagation != 10*time.Minute || n.RotateEvery != time.Hour || strings.Join(n.Algorithms, " ") != EdDSA {
			t.Errorf("%+v", n)
		}
		a.stop()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(testPoll + time.Second)
		if n := b.cfg.Nodes.Count(); n != 1 {
			t.Errorf("%d nodes are live after a clean stop", n)
		}
	})
}

// version returns the version of the manifest.
func (n *node) version() uint64 {
	var s sight
	n.store.View(context.Background(), func(rd storage.Reader) (err error) { s, err = n.lookAt(rd); return err })
	return s.version
}

// TestNodesAgreeOnTheTimes: the decision time and the served time of a node follow the others, so both are the
// same to p, although the wall clocks differ.
func TestNodesAgreeOnTheTimes(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		time.Sleep(time.Hour)
		b, err := c.node("b", 8*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		b.run(t)
		for range 100 {
			time.Sleep(7 * time.Second)
			decisionA, servedA := a.Times()
			decisionB, servedB := b.Times()
			if d := decisionB.Sub(decisionA).Abs(); d > 2*testPoll {
				t.Fatalf("the decision times differ by %v", d)
			}
			if d := (servedB - servedA).Abs(); d > 2*testPoll {
				t.Fatalf("the served times differ by %v", d)
			}
		}
		if d := time.Until(a.Now()); d < 3*time.Second {
			t.Errorf("the decision time is %v ahead, want that of the highest clock", d)
		}
		if d := time.Until(a.WallTime()).Abs(); d > time.Second {
			t.Errorf("the wall time of a node follows that of another by %v", d)
		}
	})
}

// TestAWrongClockStopsANode, a day ahead or behind. It signs nothing, writes no clock and is not ready, until its clock
// is right again.
func TestAWrongClockStopsANode(t *testing.T) {
	for _, off := range []time.Duration{24 * time.Hour, -24 * time.Hour, 30 * time.Second, -time.Minute} {
		for _, others := range []int{1, 2} {
			inCluster(t, func(t *testing.T, c *cluster) {
				a := c.start("a")
				b := c.start("b")
				if others == 2 {
					c.start("c")
				}
				time.Sleep(time.Minute)
				before := a.Now()
				b.off.Store(int64(off))
				time.Sleep(testPoll + time.Second)
				if kid := b.signer(); kid != "" || b.Status().Ready {
					t.Errorf("%v, %d others: the node signs with %q, status %+v", off, others, kid, b.Status())
				}
				away := time.Minute
				if off > time.Hour && others == 1 {
					away = 2 * time.Hour // it does not trust the clock after an hour
				}
				time.Sleep(away)
				if kid := b.signer(); kid != "" {
					t.Errorf("%v, %d others: the node signs with %s after %v", off, others, kid, away)
				}
				if a.signer() == "" || !a.Status().Ready {
					t.Errorf("%v, %d others: a node with the right time does not sign: %+v", off, others, a.Status())
				}
				if d := a.Now().Sub(before); d > away+time.Minute {
					t.Errorf("%v, %d others: the decision time went ahead by %v", off, others, d)
				}
				b.off.Store(0)
				time.Sleep(2 * testPoll)
				if b.signer() == "" || !b.Status().Ready {
					t.Errorf("%v, %d others: the node does not sign with the right time: %+v", off, others, b.Status())
				}
			})
		}
	}
}

// TestAWrongClockStopsAStart, with one line, and nothing is written but the record of the node.
func TestAWrongClockStopsAStart(t *testing.T) {
	for _, off := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		inCluster(t, func(t *testing.T, c *cluster) {
			a := c.start("a")
			time.Sleep(time.Minute)
			_, err := c.node("b", off)
			if err == nil || !strings.Contains(err.Error(), "clock of this machine") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v: %v", off, err)
			}
			time.Sleep(2 * testPoll)
			if d := time.Until(a.Now()).Abs(); d > time.Second || a.signer() == "" {
				t.Errorf("%v: the running node is off by %v, %+v", off, d, a.Status())
			}
		})
	}
}
