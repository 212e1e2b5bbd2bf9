package auditlines

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/nodes"
	"keymill/storage/storagetest"
)

const poll = 5 * time.Second

// onBoth runs a test on bbolt, and on a store that runs functions again.
func onBoth(t *testing.T, test func(*testing.T, func() storage.Store)) {
	t.Run("bbolt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, func() storage.Store { return openStore(t) }) })
	})
	t.Run("rerunning", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, func() storage.Store { return storagetest.Rerunning(openStore(t)) }) })
	})
}

func startNode(t *testing.T, s storage.Store, to Destination, hold func(context.Context) (bool, error)) *running {
	return startWith(t, Config{Store: s, To: to, Hold: hold})
}

// TestNodesWriteEachRecordOnceTogether: the holder of the lease writes, and after it has stopped or crashed another one
// goes on with the next record.
func TestNodesWriteEachRecordOnceTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, open func() storage.Store) {
		s := open()
		made := 0
		some := func() {
			for range 15 {
				decide(t, s, made, 2)
				made += 2
				after(1)
			}
		}
		var to [3]fakeDestination
		var copies [3]*running
		var registries [3]*nodes.Registry
		for n := range copies {
			registries[n] = nodes.New(nodes.Config{ID: string(rune('a' + n)), Poll: poll})
			copies[n] = startNode(t, s, &to[n], registries[n].Lease(s, "audit.log"))
			after(1)
		}
		some()
		if len(to[0].got()) != made || len(to[1].got())+len(to[2].got()) != 0 {
			t.Errorf("the nodes wrote %d, %d and %d lines of %d", len(to[0].got()), len(to[1].got()), len(to[2].got()), made)
		}
		copies[0].stop() // as a crash: the lease is not given back
		some()
		after(30)
		last := 1
		if len(to[2].got()) > 0 {
			last = 2
		}
		copies[last].stop()
		copies[last].Flush(t.Context())
		if err := registries[last].Release(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		some()
		after(30)
		all := slices.Concat(to[0].got(), to[last].got(), to[3-last].got())
		if !slices.Equal(all, stored(t, s)) || len(all) != made {
			t.Errorf("%d lines of %d records, or not in their order", len(all), made)
		}
		copies[3-last].stop()
		copies[3-last].Flush(t.Context())
		if w := copies[3-last].Warnings(); w != nil {
			t.Errorf("warnings: %v", w)
		}
	})
}

// TestAPausedWriterPutsNothingBack: two nodes believe to hold the lease, and one of them was paused while it wrote.
func TestAPausedWriterPutsNothingBack(t *testing.T) {
	onBoth(t, func(t *testing.T, open func() storage.Store) {
		s := open()
		always := func(context.Context) (bool, error) { return true, nil }
		paused := fakeDestination{stuck: make(chan struct{})}
		var awake fakeDestination
		decide(t, s, 0, 5)
		a := startNode(t, s, &paused, always)
		after(2)
		b := startNode(t, s, &awake, always)
		after(2)
		decide(t, s, 5, 5)
		after(2)
		close(paused.stuck)
		paused.set(nil, 0, nil)
		after(5)
		b.stop()
		decide(t, s, 10, 3)
		after(5)
		a.stop()
		lines := stored(t, s)
		if got := awake.got(); !slices.Equal(got, lines[:10]) {
			t.Errorf("the other node wrote %d lines, want the first 10", len(got))
		}
		if got, want := paused.got(), slices.Concat(lines[:5], lines[10:]); !slices.Equal(got, want) {
			t.Errorf("the paused node wrote %d lines, want the 5 under way and those after number 10", len(got))
		}
	})
}

// TestALostLeaseStopsTheLines, also when the store is away, and is no fault of audit.log.
func TestALostLeaseStopsTheLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		decide(t, s, 0, 1)
		var to fakeDestination
		held := make(chan bool, 1)
		held <- true
		c := startNode(t, s, &to, func(context.Context) (bool, error) {
			h := <-held
			held <- h
			return h, nil
		})
		after(1)
		<-held
		held <- false
		decide(t, s, 1, 1)
		after(60)
		if n := len(to.got()); n != 1 || c.Warnings() != nil {
			t.Errorf("%d lines without the lease, %v", n, c.Warnings())
		}
		<-held
		held <- true
		after(1)
		c.stop()
		if got := to.got(); !slices.Equal(got, stored(t, s)) {
			t.Errorf("%d lines", len(got))
		}
	})
}
