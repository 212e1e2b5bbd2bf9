package keystore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/nodes"
	"keymill/storage/sealed"
	"keymill/storage/storagetest"
)

// A fleet is a store that several servers use.
type fleet struct {
	t      *testing.T
	store  storage.Store
	master MasterKey
}

// onFleet runs fn in bubbles, on bbolt and on a store that discards runs.
func onFleet(t *testing.T, fn func(t *testing.T, f *fleet)) {
	for kind, wrap := range map[string]func(storage.Store) storage.Store{
		"bbolt": func(s storage.Store) storage.Store { return s }, "rerunning": storagetest.Rerunning,
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fleet{t: t, store: wrap(openStore(t, filepath.Join(t.TempDir(), "db")))}
				f.master, _ = NewMasterKey()
				create(t, f.store, trial(f.master))
				fn(t, f)
			})
		})
	}
}

// open opens the store as a server with the master key and, unless mark is "", with a mark of its own.
func (f *fleet) open(id string, master MasterKey, mark string) (*Rings, error) {
	f.t.Helper()
	cfg := trial(master)
	cfg.Nodes = nodes.New(nodes.Config{ID: id})
	if mark != "" {
		m, err := sealed.OpenMark(mark)
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() { m.Close() })
		cfg.Mark = m
	}
	r, err := Open(f.t.Context(), f.store, cfg)
	return r, err
}

func (f *fleet) start(id string, master MasterKey, mark string) *Rings {
	f.t.Helper()
	r, err := f.open(id, master, mark)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// beat writes the record of a server.
func (f *fleet) beat(r *Rings) {
	f.t.Helper()
	if err := r.Store().Update(f.t.Context(), func(tx storage.Tx) error { return r.cfg.Nodes.Put(tx, nodes.Facts{Keys: 1}) }); err != nil {
		f.t.Fatal(err)
	}
}

// bothKeys returns two master keys, and the one of a file with the lines of two.
func bothKeys(t *testing.T) (old, next, both MasterKey) {
	t.Helper()
	old, one := NewMasterKey()
	next, two := NewMasterKey()
	both, err := ParseMasterKey(bytes.Join([][]byte{one, two}, nil))
	if err != nil {
		t.Fatal(err)
	}
	return old, next, both
}

// TestServersGoOnWhileTheMasterKeyChanges: those that have both keys write, sign and start before, during and after
// it, and afterwards the old key opens nothing.
//
// I26.
func TestServersGoOnWhileTheMasterKeyChanges(t *testing.T) {
	onFleet(t, func(t *testing.T, f *fleet) {
		old, next, both := bothKeys(t)
		if err := ChangeMasterKey(t.Context(), f.store, MasterKeyChange{Old: f.master, Next: old, Shared: true}); err != nil {
			t.Fatal(err)
		}
		a, paused := f.start("a", both, ""), f.start("b", both, "")
		if err := ChangeMasterKey(t.Context(), f.store, MasterKeyChange{Old: old, Next: next, By: "test"}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(a.addReserve(t.Context(), EdDSA, edKey(t)), a.Reload(t.Context())); err != nil {
			t.Fatalf("a key of a server that was not told: %v", err)
		}
		c := f.start("c", both, "") // it ends the change
		if c.store.Retagging() {
			t.Error("the change has not ended")
		}
		// The one that was paused wakes up with keys that no record has.
		if _, err := paused.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*Rings{a, paused, c, f.start("d", next, "")} {
			if err := errors.Join(r.Reload(t.Context()), r.tick(t.Context()), r.store.Refresh(t.Context())); err != nil {
				t.Fatal(err)
			}
			if n := r.store.Generation(); n != 3 || r.store.Retagging() {
				t.Errorf("generation %d, %v", n, r.store.Retagging())
			}
			if r.Damaged() != nil {
				t.Error(r.Damaged())
			}
		}
		if err := a.store.CheckManifest(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := f.open("e", old, ""); !errors.Is(err, ErrMasterKey) {
			t.Errorf("the old key: %v", err)
		}
	})
}

// TestAServerWithoutTheNewMasterKeyWritesNothing, and says why.
//
// I26.
func TestAServerWithoutTheNewMasterKeyWritesNothing(t *testing.T) {
	onFleet(t, func(t *testing.T, f *fleet) {
		next, _ := NewMasterKey()
		a := f.start("a", f.master, "")
		if err := ChangeMasterKey(t.Context(), f.store, MasterKeyChange{Old: f.master, Next: next, Shared: true}); err != nil {
			t.Fatal(err)
		}
		err := a.addReserve(t.Context(), EdDSA, edKey(t))
		if !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), "the keys of the store were changed") {
			t.Errorf("a write: %v", err)
		}
		time.Sleep(time.Minute)
		if err := a.tick(t.Context()); !errors.Is(err, ErrMasterKey) {
			t.Errorf("a look: %v", err)
		}
	})
}

// TestTwoChangesOfTheMasterKeyLoseNoDataKey: the end of the first one that a slow server does writes nothing over the second.
//
// I26.
func TestTwoChangesOfTheMasterKeyLoseNoDataKey(t *testing.T) {
	onFleet(t, func(t *testing.T, f *fleet) {
		old, next, both := bothKeys(t)
		change := func(from, to MasterKey) {
			t.Helper()
			if err := ChangeMasterKey(t.Context(), f.store, MasterKeyChange{Old: from, Next: to}); err != nil {
				t.Fatal(err)
			}
		}
		f.start("a", f.master, "")
		change(f.master, old)
		u, err := unlockFor(t.Context(), f.store, trial(both))
		if err != nil {
			t.Fatal(err)
		}
		u.Share()
		changed := false
		slow := func(int, string) { // all records are tagged again, and the keyring has both data keys yet
			if !changed {
				changed = true
				change(old, next) // ends the first change
			}
		}
		if err := (MasterKeyChange{Progress: slow}).Finish(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		r := f.start("b", next, "")
		if err := r.store.CheckManifest(t.Context()); err != nil || r.store.Generation() != 3 {
			t.Errorf("generation %d, %v", r.store.Generation(), err)
		}
	})
}

// TestServersOfARestoredStoreEnd: one that looks, and one that writes first. Two restores of one copy differ.
//
// I14.
func TestServersOfARestoredStoreEnd(t *testing.T) {
	onFleet(t, func(t *testing.T, f *fleet) {
		for range 2 {
			a, b := f.start("a", f.master, ""), f.start("b", f.master, "")
			restored, err := Open(t.Context(), f.store, trial(f.master))
			if err != nil {
				t.Fatal(err)
			}
			before, err := Life(t.Context(), f.store, f.master)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := restored.Renew(t.Context(), RenewRequest{By: "test"}); err != nil {
				t.Fatal(err)
			}
			if after, err := Life(t.Context(), f.store, f.master); err != nil || after <= before || after < uint64(time.Now().UnixMilli()) {
				t.Errorf("life %d became %d, %v", before, after, err)
			}
			ring := rawGet(t, f.store, ringKey(EdDSA))
			var ended *sealed.LifeError
			if err := b.addReserve(t.Context(), EdDSA, edKey(t)); !errors.As(err, &ended) {
				t.Errorf("a write: %v", err)
			}
			began := time.Now()
			if err := a.Run(t.Context()); !errors.As(err, &ended) || time.Since(began) > 10*time.Second {
				t.Errorf("Run returned %v after %v", err, time.Since(began))
			}
			if !storage.Ended(a.Store(), ended) || !bytes.Equal(ring, rawGet(t, f.store, ringKey(EdDSA))) {
				t.Error("the servers go on")
			}
		}
	})
}

// TestARestoreIsALaterLifeThanTheReplacedStore, also if the clock went back.
func TestARestoreIsALaterLifeThanTheReplacedStore(t *testing.T) {
	r, s := newRings(t)
	far := uint64(time.Now().Add(time.Hour).UnixMilli())
	for _, replaced := range []uint64{far, far + 5} {
		if err := r.unlocked.BeginLife(t.Context(), replaced, time.Now()); err != nil {
			t.Fatal(err)
		}
		if life, err := Life(t.Context(), s, r.cfg.Master); err != nil || life != replaced+1 {
			t.Errorf("after %d: %d, %v", replaced, life, err)
		}
		mark, err := sealed.OpenMark(filepath.Join(t.TempDir(), "mark"))
		if err != nil {
			t.Fatal(err)
		}
		defer mark.Close()
		u, err := unlockFor(t.Context(), s, r.cfg)
		if err := errors.Join(err, r.WriteMark(mark)); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Store.ReadMark(mark); err != nil {
			t.Errorf("the mark of the restored store: %v", err)
		}
	}
}

// TestAServerThatIsNewToAStoreTakesItAsItIs while another one uses it: it has no mark, and that is no fault.
//
// I25.
func TestAServerThatIsNewToAStoreTakesItAsItIs(t *testing.T) {
	onFleet(t, func(t *testing.T, f *fleet) {
		dir := t.TempDir()
		mark := func(name string) string { return filepath.Join(dir, name) }
		old, next, both := bothKeys(t)
		if err := ChangeMasterKey(t.Context(), f.store, MasterKeyChange{Old: f.master, Next: old, Shared: true}); err != nil {
			t.Fatal(err)
		}
		a := f.start("a", both, mark("a"))
		serve := func(rings ...*Rings) {
			t.Helper()
			for range 10 {
				time.Sleep(5 * time.Second)
				for _, r := range rings {
					f.beat(r)
					if err := r.tick(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		serve(a)
		b := f.start("b", both, mark("b"))
		if b.MarkMissing() || auditCount(t, a)["store.mark_missing"] != 0 {
			t.Error("the mark of a new server is missing")
		}
		serve(a, b)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := ChangeMasterKey(t.Context(), f.store, MasterKeyChange{Old: both, Next: next, Shared: true}); err != nil {
			t.Fatal(err)
		}
		serve(a)
		c := f.start("c", both, mark("c"))
		for _, r := range []*Rings{a, c} {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}

		time.Sleep(time.Hour) // no other server is live
		b, err := f.open("b", next, mark("b"))
		if err != nil {
			t.Fatalf("a server that was down during a change of the master key: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if d := f.start("d", next, mark("d")); !d.MarkMissing() || auditCount(t, d)["store.mark_missing"] != 1 {
			t.Error("a server that is alone says nothing of its missing mark")
		}
	})
}

// TestAServerWhoseMarkIsAheadSaysSo, also while another one is live: after a failover to a standby that was behind.
//
// I25.
func TestAServerWhoseMarkIsAheadSaysSo(t *testing.T) {
	onFleet(t, func(t *testing.T, f *fleet) {
		path := filepath.Join(t.TempDir(), "mark")
		a := f.start("a", f.master, path)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.store.WriteMark(a.cfg.Mark, time.Hour); err != nil {
			t.Fatal(err)
		}
		f.start("b", f.master, "")
		_, err = f.open("a", f.master, path)
		var older *OlderStoreError
		if !errors.As(err, &older) || !strings.Contains(err.Error(), "asynchronous standby") {
			t.Errorf("%v", err)
		}
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.open("a", f.master, path); err != nil {
			t.Errorf("with its own mark: %v", err)
		}
	})
}

// TestEveryServerListsWhatAnyOfThemRevoked: the file of each machine is enough for a restore, also after a change of the
// master key.
//
// I14.
func TestEveryServerListsWhatAnyOfThemRevoked(t *testing.T) {
	onFleet(t, func(t *testing.T, f *fleet) {
		old, next, both := bothKeys(t)
		if err := ChangeMasterKey(t.Context(), f.store, MasterKeyChange{Old: f.master, Next: old, Shared: true}); err != nil {
			t.Fatal(err)
		}
		a, b := f.start("a", both, ""), f.start("b", both, "")
		b.cfg.RevokedFile = filepath.Join(t.TempDir(), "revoked")
		wait := func() {
			t.Helper()
			time.Sleep(6 * time.Second)
			for _, r := range []*Rings{a, b} {
				if err := r.tick(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		wait()
		kid := stage(t, a, Active)
		if _, err := a.Revoke(t.Context(), RevokeRequest{KID: kid}, "test"); err != nil {
			t.Fatal(err)
		}
		wait()
		if err := b.CheckRevoked(t.Context(), b.cfg.RevokedFile); err != nil {
			t.Errorf("after a revocation by another server: %v", err)
		}
		if err := ChangeMasterKey(t.Context(), f.store, MasterKeyChange{Old: old, Next: next, Shared: true}); err != nil {
			t.Fatal(err)
		}
		wait()
		if err := b.CheckRevoked(t.Context(), b.cfg.RevokedFile); err != nil {
			t.Errorf("after a change of the master key: %v", err)
		}
		written := fileText(t, b.cfg.RevokedFile)
		wait()
		if fileText(t, b.cfg.RevokedFile) != written {
			t.Error("the file is written again although nothing changed")
		}
	})
}

// fileText returns what a file holds.
func fileText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
