package keystore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/keystore/internal/clock"
	"keymill/storage"
	"keymill/storage/audit"
)

// auditCount returns how often each action is in the audit log, with its target.
func auditCount(t *testing.T, r *Rings) map[string]int {
	t.Helper()
	if _, err := audit.Chain(t.Context(), r.Store()); err != nil {
		t.Fatal(err)
	}
	page, err := audit.Read(t.Context(), r.Store(), audit.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, rec := range page.Records {
		seen[rec.Action]++
		seen[rec.Action+" "+rec.Target]++
	}
	return seen
}

// openAll opens a new store n times, at once.
func openAll(t *testing.T, s storage.Store, cfg Config, n int) []*Rings {
	t.Helper()
	create(t, s, cfg)
	rings, errs := make([]*Rings, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() { rings[i], errs[i] = Open(t.Context(), s, cfg) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return rings
}

// TestNodesThatStartTogetherMakeOneSetOfKeys: one active key, one spare and one reserve in each ring.
func TestNodesThatStartTogetherMakeOneSetOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, filepath.Join(t.TempDir(), "db"))
		master, _ := NewMasterKey()
		cfg := trial(master)
		cfg.Algorithms = []string{EdDSA, ES256}
		nodes := openAll(t, s, cfg, 3)
		for _, r := range nodes {
			run(t, r)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if err := nodes[0].Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, alg := range cfg.Algorithms {
			if ring := nodes[0].snapshot.Load().rings[alg]; len(ring.Keys) != 3 {
				t.Errorf("the ring of %s has %d keys", alg, len(ring.Keys))
			}
		}
		if n := auditCount(t, nodes[0])["key.mint"]; n != 6 {
			t.Errorf("%d keys were made, want 6", n)
		}
	})
}

// TestNoNodeWritesADroppedKeyBack: each step of a key is taken and recorded once, although every node
// would take it.
func TestNoNodeWritesADroppedKeyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		other, err := Open(t.Context(), s, r.cfg)
		if err != nil {
			t.Fatal(err)
		}
		run(t, r)
		until(t, "a reserve", func() bool { return stage(t, r, Reserve) != "" })
		old := stage(t, r, Active)
		for _, node := range []*Rings{r, other} {
			if err := node.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); err != nil {
			t.Fatal(err)
		}
		if err := other.Reload(t.Context()); err != nil { // it knows the retired key, and is then paused
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute) // r erases and drops it
		if err := other.eraseDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(tx storage.Reader) error { _, err := tx.Get(retiredKey(EdDSA, old)); return err })
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the dropped key is back: %v", err)
		}
		seen := auditCount(t, r)
		for _, step := range []string{"key.stop ", "key.erase ", "key.drop "} {
			if seen[step+old] != 1 {
				t.Errorf("%sis recorded %d times", step, seen[step+old])
			}
		}
	})
}

// TestAStepThatAnotherNodeTookIsNotTakenAgain: the ring is advanced once, and the other node writes nothing.
func TestAStepThatAnotherNodeTookIsNotTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		if err := errors.Join(r.addReserve(t.Context(), EdDSA, edKey(t)), r.Reload(t.Context())); err != nil {
			t.Fatal(err)
		}
		other, err := Open(t.Context(), s, r.cfg)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // past the Sign time of the spare
		if err := r.advanceRings(t.Context()); err != nil {
			t.Fatal(err)
		}
		ring, written := rawGet(t, s, ringKey(EdDSA)), rawGet(t, s, clockKey)
		time.Sleep(time.Second)
		if err := other.advanceRings(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(written, rawGet(t, s, clockKey)) {
			t.Error("the clock record was written for a step that was taken before")
		}
		if !slices.Equal(ring, rawGet(t, s, ringKey(EdDSA))) {
			t.Error("the ring was advanced twice")
		}
		if seen := auditCount(t, r); seen["key.stop"] != 1 {
			t.Errorf("%v", seen)
		}
	})
}

// TestTheClockRecordOnlyRises: whichever node writes it.
func TestTheClockRecordOnlyRises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		time.Sleep(time.Hour)
		ahead, err := open(t.Context(), s, r.cfg, func() time.Time { return time.Now().Add(90 * time.Second) })
		if err != nil {
			t.Fatal(err)
		}
		read := func() (rec clock.Record) {
			if err := r.store.View(t.Context(), func(tx storage.Reader) error { _, err := getJSON(tx, clockKey, &rec); return err }); err != nil {
				t.Fatal(err)
			}
			return rec
		}
		last := read()
		for step, write := range []func() error{
			func() error { return ahead.writeClock(t.Context(), *ahead.clock.Load()) },
			func() error { return r.writeClock(t.Context(), *r.clock.Load()) },
			func() error {
				_, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test")
				return err
			},
			func() error { return r.addReserve(t.Context(), EdDSA, edKey(t)) },
			func() error { return ahead.writeClock(t.Context(), *ahead.clock.Load()) },
			func() error { return r.reschedule(t.Context(), r.Now(), r.Now()) },
			func() error { return r.Close() },
		} {
			if err := write(); err != nil {
				t.Fatalf("write %d: %v", step, err)
			}
			now := read()
			if now.Highest.Before(last.Highest) || now.ErasureTime.Before(last.ErasureTime) || now.ServedTime < last.ServedTime ||
				now.Manifest < last.Manifest || now.OldCachesUntil.Before(last.OldCachesUntil) || now.WallLag < 0 {
				t.Errorf("write %d: %+v became %+v", step, last, now)
			}
			last = now
			time.Sleep(time.Second)
		}
	})
}

// TestAClockRecordThatWasPutBackIsNotRaised: several writers are no reason to accept an older one.
func TestAClockRecordThatWasPutBackIsNotRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		old := rawGet(t, s, clockKey)
		time.Sleep(time.Minute)
		if err := r.writeClock(t.Context(), *r.clock.Load()); err != nil {
			t.Fatal(err)
		}
		rawPut(t, s, clockKey, old)
		for what, write := range map[string]func() error{
			"heartbeat": func() error { return r.writeClock(t.Context(), *r.clock.Load()) },
			"reserve":   func() error { return r.addReserve(t.Context(), EdDSA, edKey(t)) },
		} {
			if err := write(); !errors.Is(err, storage.ErrDamaged) || !strings.Contains(fmt.Sprint(err), "clock") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
