package keystore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/keystore/internal/keyring"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
)

// damageBelow changes a bit of each record, below the tags.
func damageBelow(t *testing.T, s storage.Store, keys ...string) {
	t.Helper()
	for _, key := range keys {
		value := slices.Clone(rawGet(t, s, key))
		value[len(value)/2] ^= 1
		rawPut(t, s, key, value)
	}
}

// TestDamageOfAnotherRecordKeepsNoRevokedKeyInUse: a revocation is in effect when it is stored, and a
// second one is possible, although the keys cannot be read again. No other change is.
//
// I5.
// I23.
func TestDamageOfAnotherRecordKeepsNoRevokedKeyInUse(t *testing.T) {
	for what, damaged := range map[string]string{"a retired key": retiredKey(EdDSA, "old"), "another ring": ringKey(RS256)} {
		s := openStore(t, t.TempDir()+"/db")
		master, _ := NewMasterKey()
		cfg := trial(master)
		cfg.Algorithms = []string{EdDSA, RS256}
		var published []PublicKey
		cfg.Changed = func(keys []PublicKey) { published = keys }
		create(t, s, cfg)
		r, err := Open(t.Context(), s, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, kid := range []string{"old", "older"} {
			req := ImportRequest{Key: pemOf(t, "PUBLIC KEY", edKey(t).Public()), KID: kid, Until: time.Now().Add(time.Hour)}
			if _, err := r.Import(t.Context(), req, "test"); err != nil {
				t.Fatal(err)
			}
		}
		damageBelow(t, s, damaged)
		signer := r.snapshot.Load().rings[EdDSA].Keys[0].KID
		// A key that is rotated away but cannot be read back would sign after its Stop time.
		if _, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: a rotation gave %v", what, err)
		}
		if err := r.store.View(t.Context(), func(tx storage.Reader) error {
			if ring, err := getRing(tx, EdDSA); err != nil || ring.Keys[0].KID != signer || !ring.Keys[0].Stop.After(r.Now()) {
				t.Errorf("%s: the rotation was stored, %+v, %v", what, ring, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		for _, kid := range []string{signer, "older"} {
			before := r.Published()
			if _, err := r.Revoke(t.Context(), RevokeRequest{KID: kid, Flush: true}, "test"); !errors.Is(err, storage.ErrDamaged) || len(r.Published()) != len(before) {
				t.Errorf("%s, revoke %s with a flush: %v", what, kid, err)
			}
			if _, err := r.Revoke(t.Context(), RevokeRequest{KID: kid}, "test"); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("%s, revoke %s: %v", what, kid, err)
			}
			isIt := func(k PublicKey) bool { return k.KID == kid }
			if slices.ContainsFunc(r.Published(), isIt) || slices.ContainsFunc(published, isIt) || r.snapshot.Load().signers[kid] != nil {
				t.Errorf("%s: the revoked key %s is still published or signs", what, kid)
			}
		}
		if token, err := r.Sign(t.Context(), EdDSA, "at+jwt", []byte("{}"), r.Now()); err == nil {
			t.Errorf("%s: a revoked key signed %s", what, token)
		}
		if _, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: a rotation gave %v", what, err)
		}
		if st := r.Status(); st.Ready {
			t.Errorf("%s: ready without a key that signs", what)
		}
	}
}

// TestAKeyThatStoppedUnseenCanBeRevoked: the store has it among the retired keys, and memory in the ring,
// because damage has kept the keys from being read again.
//
// I5.
func TestAKeyThatStoppedUnseenCanBeRevoked(t *testing.T) {
	r, s := newRings(t)
	req := ImportRequest{Key: pemOf(t, "PUBLIC KEY", edKey(t).Public()), KID: "old", Until: time.Now().Add(time.Hour)}
	if _, err := r.Import(t.Context(), req, "test"); err != nil {
		t.Fatal(err)
	}
	stopped := r.snapshot.Load().rings[EdDSA].Keys[0]
	damageBelow(t, s, retiredKey(EdDSA, "old"))
	// What a rotation would write, before its reload fails.
	if err := r.store.Update(t.Context(), func(tx storage.Tx) error {
		ring, err := getRing(tx, EdDSA)
		ring.Keys = ring.Keys[1:]
		k := stopped
		k.Stop, k.Drop, k.Erase = r.Now(), r.Now().Add(time.Hour), r.Now().Add(time.Hour)
		return errors.Join(err, putRing(tx, ring), putRetired(tx, k))
	}); err != nil {
		t.Fatal(err)
	}
	rawPut(t, s, tombstoneKey("old"), []byte("junk")) // of a writer of the store
	if _, err := r.Revoke(t.Context(), RevokeRequest{KID: stopped.KID}, "test"); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("revoke: %v", err)
	}
	if slices.ContainsFunc(r.Published(), func(k PublicKey) bool { return k.KID == stopped.KID }) || r.snapshot.Load().signers[stopped.KID] != nil {
		t.Error("the revoked key is still in use")
	}
	if isStored(t, s, retiredKey(EdDSA, stopped.KID)) {
		t.Error("its record is left")
	}
	if err := s.View(t.Context(), func(tx storage.Reader) error {
		_, err := tx.Get(tombstoneKey(stopped.KID))
		return err
	}); err != nil {
		t.Errorf("its tombstone: %v", err)
	}
}

// TestARunningServerNoticesAnOlderManifest that was put back with its records: it never takes its version
// for the newest, so the next start refuses the store.
//
// I24.
func TestARunningServerNoticesAnOlderManifest(t *testing.T) {
	r, s := newRings(t)
	tick := func() error { r.clockWritten = -time.Hour; return r.tick(t.Context()) }
	if err := tick(); err != nil {
		t.Fatal(err)
	}
	old := recordsBelow(t, s, "manifest", "ring/~")
	raise(t, r, EdDSA, 2*time.Minute)
	if err := tick(); err != nil {
		t.Fatal(err)
	}
	now := recordsBelow(t, s, "manifest", "ring/~")
	replaceBelow(t, s, now, old)
	for range 2 {
		if err := tick(); !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "record manifest is damaged") {
			t.Errorf("a heartbeat over the older manifest: %v", err)
		}
	}
	if st := r.Status(); st.Ready || !strings.Contains(strings.Join(st.Issues, " "), "manifest") {
		t.Errorf("ready over an older manifest: %+v", st)
	}
	if _, err := Open(t.Context(), s, r.cfg); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("the next start: %v", err)
	}
	replaceBelow(t, s, old, now)
	if err := tick(); err != nil || !r.Status().Ready {
		t.Errorf("the newest manifest is back: %v, %+v", err, r.Status())
	}
}

func recordsBelow(t *testing.T, s storage.Store, start, end string) map[string][]byte {
	t.Helper()
	var found map[string][]byte
	if err := s.View(t.Context(), func(tx storage.Reader) error {
		found = map[string][]byte{}
		for e, err := range tx.Scan(start, end) {
			if err != nil {
				return err
			}
			found[e.Key] = slices.Clone(e.Value)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

func replaceBelow(t *testing.T, s storage.Store, before, after map[string][]byte) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		var errs []error
		for key := range before {
			errs = append(errs, tx.Delete(key))
		}
		for key, value := range after {
			errs = append(errs, tx.Put(key, value))
		}
		return errors.Join(errs...)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestServedTimeGoesOnOverDamage: a damaged record that stops the maintenance of the keys stops neither the
// clock record nor the mark.
//
// I25.
func TestServedTimeGoesOnOverDamage(t *testing.T) {
	inAge(t, func(t *testing.T, a *aged) {
		a.serve(5 * time.Minute)
		r, file, err := a.open("")
		if err != nil {
			t.Fatal(err)
		}
		damageBelow(t, file, ringKey(EdDSA))
		r.stale = true
		for range 10 {
			time.Sleep(time.Minute)
			if err := r.tick(t.Context()); !errors.Is(err, storage.ErrDamaged) {
				t.Fatalf("a tick over a damaged ring: %v", err)
			}
		}
		if marked, err := r.store.ReadMark(r.cfg.Mark); err != nil || marked < 14*time.Minute {
			t.Errorf("the mark remembers %v, %v", marked, err)
		}
		if st := r.Status(); st.Ready {
			t.Error("ready over a damaged ring")
		}
		file.Close()
	})
}

// TestADamagedReserveIsFoundAtTheStart, before it is published.
//
// I27.
func TestADamagedReserveIsFoundAtTheStart(t *testing.T) {
	r, s := newRings(t)
	if err := errors.Join(r.addReserve(t.Context(), EdDSA, edKey(t)), r.Reload(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, k := range r.snapshot.Load().rings[EdDSA].Keys {
		if r.snapshot.Load().signers[k.KID] == nil {
			damageBelow(t, s, privateKey(k.KID))
			for _, what := range []string{"damaged", "missing"} {
				if _, err := Open(t.Context(), s, r.cfg); !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), k.KID) {
					t.Errorf("a start with a %s private half: %v", what, err)
				}
				replaceBelow(t, s, map[string][]byte{privateKey(k.KID): nil}, nil)
			}
			return
		}
	}
	t.Fatal("there is no reserve")
}

// TestTheEndOfAChangeOfTheMasterKeyStays: the keyring with both data keys, put back after the change has
// ended, opens no record that has a tag of the old data key.
//
// I26.
func TestTheEndOfAChangeOfTheMasterKeyStays(t *testing.T) {
	for _, changedSince := range []bool{false, true} {
		r, s := newRings(t)
		cfg := r.cfg
		put := func(r *Rings, key, value string) {
			t.Helper()
			if err := r.Store().Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
				t.Fatal(err)
			}
		}
		forged := map[string][]byte{}
		for _, key := range []string{"user/7", "webhook/7"} { // the second is behind all records of the store
			put(r, key, "by the holder of the old key")
			forged[key] = rawGet(t, s, key)
		}
		put(r, "user/7", "whole")
		replaceBelow(t, s, map[string][]byte{"webhook/7": nil}, nil)
		next, _ := NewMasterKey()
		if err := ChangeMasterKey(t.Context(), s, MasterKeyChange{Old: cfg.Master, Next: next, By: "test"}); err != nil {
			t.Fatal(err)
		}
		both := rawGet(t, s, keyring.Record)
		cfg.Master = next
		again, err := Open(t.Context(), s, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if changedSince {
			raise(t, again, EdDSA, 3*time.Minute)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		rawPut(t, s, keyring.Record, both)
		replaceBelow(t, s, nil, forged)
		last, err := Open(t.Context(), s, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for key := range forged {
			if err := last.Store().View(t.Context(), func(tx storage.Reader) error { _, err := tx.Get(key); return err }); !errors.Is(err, storage.ErrForged) {
				t.Errorf("changed since %t: %s of the old data key: %v", changedSince, key, err)
			}
		}
		if last.store.Retagging() {
			t.Error("the change has not ended")
		}
	}
}

// TestWhatIsWrittenIsNoDamage: an import at the ends of what is accepted, and a clock that was never set.
func TestWhatIsWrittenIsNoDamage(t *testing.T) {
	r, s := newRings(t)
	for _, tt := range []struct {
		until time.Time
		ok    bool
	}{
		{latestUntil, true}, {latestUntil.Add(time.Second), false}, {schedule.Never, false}, {schedule.Never.Add(time.Hour * 24 * 364), false},
	} {
		req := ImportRequest{Key: pemOf(t, "PUBLIC KEY", edKey(t).Public()), KID: fmt.Sprint("until-", tt.until.Unix()), Until: tt.until}
		_, err := r.Import(t.Context(), req, "test")
		var invalid *InvalidError
		if tt.ok && err != nil || !tt.ok && !errors.As(err, &invalid) {
			t.Errorf("until %s: %v", tt.until, err)
		}
	}
	if _, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); err != nil {
		t.Errorf("the next rotation: %v", err)
	}
	if _, err := Open(t.Context(), s, r.cfg); err != nil {
		t.Errorf("the next start: %v", err)
	}
	for _, year := range []int{1, 1970, 1979, 2262, 9999} {
		_, err := open(t.Context(), s, r.cfg, func() time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) })
		if err == nil || !strings.Contains(err.Error(), "the clock of this machine says") {
			t.Errorf("year %d: %v", year, err)
		}
	}
}

// TestTheTokenOfAnUnservedCopyStays: a copy from before the first start, beside the mark of a later one, is
// accepted by the token that its refusal printed.
//
// I25.
func TestTheTokenOfAnUnservedCopyStays(t *testing.T) {
	inAge(t, func(t *testing.T, a *aged) {
		unserved := a.copy()
		a.serve(10 * time.Minute)
		a.putBack(unserved)
		first := a.refused("")
		time.Sleep(time.Minute)
		if second := a.refused(""); first == nil || second == nil || first.Token != second.Token {
			t.Fatalf("refused with %+v, then with %+v", first, second)
		}
		if again := a.refused(first.Token); again != nil {
			t.Errorf("the token is not accepted: %v", again)
		}
	})
}
