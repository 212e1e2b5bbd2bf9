package keystore

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/jwks"
	"keymill/keystore/internal/clock"
	"keymill/keystore/internal/keyring"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// trial returns the fastest schedule that the configuration allows.
func trial(master MasterKey) Config {
	return Config{
		Algorithms: []string{EdDSA}, RotateEvery: 12 * time.Second, Propagation: 4 * time.Second,
		MaxAge: 2 * time.Second, Master: master, CheckRSA: jwks.CheckRSA,
	}
}

func openStore(t *testing.T, path string) storage.Store {
	t.Helper()
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return storagetest.RerunningIfAsked(s)
}

// newRings opens a new store with one EdDSA ring, whose tokens live for a minute.
func newRings(t *testing.T) (*Rings, storage.Store) {
	t.Helper()
	s := openStore(t, filepath.Join(t.TempDir(), "db"))
	return ringsOf(t, s), s
}

// ringsOf makes a store of s and opens it.
func ringsOf(t *testing.T, s storage.Store) *Rings {
	t.Helper()
	master, _ := NewMasterKey()
	create(t, s, trial(master))
	r, err := Open(t.Context(), s, trial(master))
	if err != nil {
		t.Fatal(err)
	}
	raise(t, r, EdDSA, time.Minute)
	return r
}

// create makes a store of s, unless it is one.
func create(t *testing.T, s storage.Store, cfg Config) {
	t.Helper()
	if _, err := Create(t.Context(), s, cfg, "uid:7", "1.2.3"); err != nil && !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
}

func raise(t *testing.T, r *Rings, alg string, lifetime time.Duration) {
	t.Helper()
	err := r.store.Update(t.Context(), func(tx storage.Tx) error { return r.RaiseMaxLifetime(tx, alg, lifetime) })
	if err := errors.Join(err, r.Reload(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// run runs the background loops until the test ends.
func run(t *testing.T, r *Rings) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const limit = time.Minute // of the bubble's time, which passes only while all goroutines wait
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %v for %s", limit, what)
}

func stage(t *testing.T, r *Rings, stage Stage) string {
	t.Helper()
	keys, _ := r.List(t.Context())
	for _, k := range keys {
		if k.Stage == stage {
			return k.KID
		}
	}
	return ""
}

func publishedKey(r *Rings, kid string) ed25519.PublicKey {
	for _, k := range r.Published() {
		if k.KID == kid {
			return k.Public.(ed25519.PublicKey)
		}
	}
	return make(ed25519.PublicKey, ed25519.PublicKeySize)
}

// R45.
func TestAHeaderHoldsOnlyAlgKidAndTyp(t *testing.T) {
	r, _ := newRings(t)
	for _, typ := range []string{"at+jwt", "JWT", "logout+jwt"} {
		token, err := r.Sign(t.Context(), EdDSA, typ, []byte(`{"a":1}`), r.WallTime().Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(token, ".")
		header, _ := base64.RawURLEncoding.DecodeString(parts[0])
		var got map[string]string
		if err := json.Unmarshal(header, &got); err != nil {
			t.Fatal(err)
		}
		if len(got) != 3 || got["alg"] != EdDSA || got["typ"] != typ || got["kid"] != stage(t, r, Active) {
			t.Errorf("header: %s", header)
		}
		signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
		if !ed25519.Verify(publishedKey(r, got["kid"]), []byte(parts[0]+"."+parts[1]), signature) {
			t.Error("the published key does not verify the signature")
		}
	}
}

// I2.
func TestATokenThatOutlivesItsKeyIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRings(t)
		var unavailable *UnavailableError
		if _, err := r.Sign(t.Context(), EdDSA, "at+jwt", nil, r.Now().Add(61*time.Second)); !errors.As(err, &unavailable) {
			t.Errorf("an expiry beyond the maximum token lifetime: %v", err)
		}
		raise(t, r, EdDSA, 2*time.Minute)
		if _, err := r.Sign(t.Context(), EdDSA, "at+jwt", nil, r.Now().Add(61*time.Second)); err != nil {
			t.Errorf("after the maximum was raised: %v", err)
		}
		raise(t, r, EdDSA, time.Second)
		if _, err := r.Sign(t.Context(), EdDSA, "at+jwt", nil, r.Now().Add(61*time.Second)); err != nil {
			t.Errorf("lowering a lifetime lowered the maximum: %v", err)
		}
		if _, err := r.Sign(t.Context(), RS256, "at+jwt", nil, r.Now()); !errors.As(err, &unavailable) {
			t.Errorf("an algorithm that is not configured: %v", err)
		}
	})
}

func TestAStoreOpensOnlyWithItsOwnMasterKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	master, _ := NewMasterKey()
	other, _ := NewMasterKey()
	s := openStore(t, path)
	create(t, s, trial(master))
	if _, err := Open(t.Context(), s, trial(master)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	before, _ := os.ReadFile(path)
	s = openStore(t, path)
	if _, err := Open(t.Context(), s, trial(other)); !errors.Is(err, ErrMasterKey) {
		t.Errorf("another master key: %v", err)
	}
	dev := trial(master)
	dev.Dev = true
	if _, err := Open(t.Context(), s, dev); err == nil || !strings.Contains(err.Error(), "--dev") {
		t.Errorf("a store that serve --dev did not create: %v", err)
	}
	s.Close()
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("a refused start changed the file")
	}
	s = openStore(t, path)
	if err := ChangeMasterKey(t.Context(), s, MasterKeyChange{Old: master, Next: other}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), s, trial(master)); !errors.Is(err, ErrMasterKey) {
		t.Errorf("the old master key after a change: %v", err)
	} else if !strings.Contains(err.Error(), "the key that the store was last sealed under") {
		t.Errorf("the error does not say which master key to give: %v", err)
	}
	if _, err := Open(t.Context(), s, trial(other)); err != nil {
		t.Errorf("the new master key: %v", err)
	}
}

// A readOnlyStore fails at each Update.
type readOnlyStore struct{ storage.Store }

func (readOnlyStore) Update(context.Context, func(storage.Tx) error) error {
	return errors.New("a check must not write")
}

func TestAMasterKeyIsCheckedWithoutAWrite(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "keymill.db"))
	right, _ := NewMasterKey()
	wrong, _ := NewMasterKey()
	if _, err := Unlock(t.Context(), readOnlyStore{s}, right); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("an empty store: %v", err)
	}
	if _, err := Create(t.Context(), s, trial(right), "test", "0"); err != nil {
		t.Fatal(err)
	}
	check := func(what string, key MasterKey, want error) {
		t.Helper()
		if _, err := Unlock(t.Context(), readOnlyStore{s}, key); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	check("its key", right, nil)
	check("another key", wrong, ErrMasterKey)
	check("no key", MasterKey{}, ErrMasterKey)
	if err := ChangeMasterKey(t.Context(), s, MasterKeyChange{Old: right, Next: wrong}); err != nil {
		t.Fatal(err)
	}
	check("the new key", wrong, nil)
	check("the old key", right, ErrMasterKey)
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(keyring.Record) }); err != nil {
		t.Fatal(err)
	}
	check("without a keyring", wrong, storage.ErrDamaged)
}

func TestADamagedStoreIsNotTakenForANewOne(t *testing.T) {
	for _, lost := range []string{keyring.Record, "meta"} {
		r, s := newRings(t)
		err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(lost) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), s, r.cfg); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("without %s: %v", lost, err)
		}
	}
}

func TestKeysSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		run(t, r)
		until(t, "a reserve", func() bool { return stage(t, r, Reserve) != "" })
		before, _ := r.List(t.Context())
		again, err := Open(t.Context(), s, r.cfg)
		if err != nil {
			t.Fatal(err)
		}
		after, _ := again.List(t.Context())
		for i := range before {
			if before[i].KID != after[i].KID || before[i].Stage != after[i].Stage {
				t.Errorf("key %d was %+v and is %+v after the restart", i, before[i], after[i])
			}
		}
	})
}

// TestARotationSurvivesACrash: if the clock record is older than the rotation, the ring tells
// which key has signed.
func TestARotationSurvivesACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		got, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test")
		if err != nil {
			t.Fatal(err)
		}
		for _, lost := range []bool{false, true} {
			if lost { // the clock record is older than the rotation
				old := clock.Record{Highest: got.Sign.Add(-4 * time.Second), ErasureTime: got.Sign, MaxAge: r.cfg.MaxAge}
				if err := r.Store().Update(t.Context(), func(tx storage.Tx) error { return putJSON(tx, clockKey, old) }); err != nil {
					t.Fatal(err)
				}
			}
			again, err := Open(t.Context(), s, r.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if active := stage(t, again, Active); active != got.KID {
				t.Errorf("after a crash the key %q signs, want %q", active, got.KID)
			}
		}
	})
}

// I6.
func TestARevokedKeyLeavesOnlyATombstone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		run(t, r)
		until(t, "a reserve", func() bool { return stage(t, r, Reserve) != "" })
		for _, which := range []Stage{Active, Spare, Active} {
			until(t, "a key to revoke", func() bool { return stage(t, r, which) != "" && r.Status().Ready })
			kid, spare := stage(t, r, which), stage(t, r, Spare)
			got, err := r.Revoke(t.Context(), RevokeRequest{KID: kid}, "test")
			if err != nil || got.Was != which || !got.CachedUntil.After(r.Now()) {
				t.Fatalf("revoke %s: %+v, %v", which, got, err)
			}
			if which == Active && (got.Successor != spare || stage(t, r, Active) != spare) {
				t.Errorf("the spare %s does not sign instead: %+v", spare, got)
			}
			for _, k := range r.Published() {
				if k.KID == kid {
					t.Errorf("the revoked %s key is published", which)
				}
			}
			if isStored(t, s, privateKey(kid)) {
				t.Error("its private half is left")
			}
			err = s.View(t.Context(), func(tx storage.Reader) error {
				_, err := tx.Get(tombstoneKey(kid))
				return err
			})
			if err != nil {
				t.Errorf("reading its tombstone: %v", err)
			}
			if _, err := r.Sign(t.Context(), EdDSA, "at+jwt", nil, r.Now()); err != nil {
				t.Errorf("signing after revoking %s: %v", which, err)
			}
			var bad *InvalidError
			if _, err := r.Revoke(t.Context(), RevokeRequest{KID: kid}, "test"); !errors.As(err, &bad) || bad.Code != "not_found" {
				t.Errorf("a second revocation: %v", err)
			}
		}
	})
}

// I5.
func TestRevokingFasterThanKeysAreMadeRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRings(t) // Run is not running yet, so no reserve is made
		for range 2 {
			if _, err := r.Revoke(t.Context(), RevokeRequest{KID: stage(t, r, Active)}, "test"); err != nil {
				t.Fatal(err)
			}
		}
		var unavailable *UnavailableError
		if _, err := r.Sign(t.Context(), EdDSA, "at+jwt", nil, r.Now()); !errors.As(err, &unavailable) || unavailable.RetryAfter <= 0 {
			t.Errorf("without a key: %v", err)
		}
		if st := r.Status(); st.Ready {
			t.Error("Status is ready without a key")
		}
		run(t, r)
		until(t, "readiness", func() bool { return r.Status().Ready })
		if _, err := r.Sign(t.Context(), EdDSA, "at+jwt", nil, r.Now()); err != nil {
			t.Error(err)
		}
	})
}

// I2.
func TestARingThatIsNoLongerConfiguredStaysPublishedForItsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		signed := stage(t, r, Active)
		cfg := r.cfg
		cfg.Algorithms = []string{RS256}
		other, err := Open(t.Context(), s, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, kid := range []string{stage(t, r, Spare), stage(t, r, Reserve)} {
			err := s.View(t.Context(), func(tx storage.Reader) error { _, err := tx.Get(privateKey(kid)); return err })
			if kid != "" && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("reading the private half of %s, which never signed: %v", kid, err)
			}
		}
		keys, _ := other.List(t.Context())
		if len(keys) == 0 || keys[0].KID != signed || keys[0].Stage != Retiring || keys[0].Drop.Sub(keys[0].Stop) < time.Minute {
			t.Errorf("the keys are %+v", keys)
		}
		if got := stage(t, other, Active); got != "" {
			t.Errorf("a ring that was added later signs before propagation: %s", got)
		}
		if !other.Status().Ready {
			t.Errorf("a ring whose first key waits for its Sign time counts as an issue: %v", other.Status().Issues)
		}
	})
}

// I19.
func TestEveryStepOfAKeyIsInTheAuditLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRings(t)
		run(t, r)
		until(t, "a reserve", func() bool { return stage(t, r, Reserve) != "" })
		first := stage(t, r, Active)
		if _, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "uid:7"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Revoke(t.Context(), RevokeRequest{KID: first}, "uid:7"); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Chain(t.Context(), r.Store()); err != nil {
			t.Fatal(err)
		}
		page, err := audit.Read(t.Context(), r.Store(), audit.Query{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]string) // action → by
		for _, rec := range page.Records {
			seen[rec.Action] = rec.By
		}
		for action, by := range map[string]string{"store.create": "uid:7", "key.mint": system, "key.publish": "", "key.sign": "uid:7",
			"key.rotate": "uid:7", "key.stop": "uid:7", "key.revoke": "uid:7"} {
			if got, ok := seen[action]; !ok || by != "" && got != by {
				t.Errorf("%s by %q, want %q", action, got, by)
			}
		}
	})
}
