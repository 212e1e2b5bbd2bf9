package keystore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"keymill/keystore/internal/keyring"
	"keymill/keystore/internal/keytype"
	"keymill/storage"
)

// rawGet and rawPut read and write below the tags, as a writer of the file can.
func rawGet(t *testing.T, s storage.Store, key string) (value []byte) {
	t.Helper()
	if err := s.View(t.Context(), func(tx storage.Reader) (err error) {
		value, err = tx.Get(key)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return value
}

func rawPut(t *testing.T, s storage.Store, key string, value []byte) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, value) }); err != nil {
		t.Fatal(err)
	}
}

// TestMetaAndKeyringAreBound: a change of any bit of either is refused in one line that names a
// record, and nothing is written.
//
// I23.
func TestMetaAndKeyringAreBound(t *testing.T) {
	r, s := newRings(t)
	cfg := r.cfg
	for _, key := range []string{keyring.MetaRecord, keyring.Record} {
		whole := rawGet(t, s, key)
		for bit := range 8 * len(whole) {
			b := append([]byte{}, whole...)
			b[bit/8] ^= 1 << (bit % 8)
			rawPut(t, s, key, b)
			_, err := Open(t.Context(), readOnlyStore{s}, cfg)
			switch {
			case err == nil:
				t.Fatalf("%s with another bit %d opened", key, bit)
			case strings.Contains(err.Error(), "\n"):
				t.Errorf("%s, bit %d: several lines: %v", key, bit, err)
			case errors.Is(err, storage.ErrDamaged) && (key == keyring.Record || strings.Contains(err.Error(), "record meta ")):
			default:
				t.Errorf("%s, bit %d: %v", key, bit, err)
			}
		}
		rawPut(t, s, key, whole)
	}
	if _, err := Open(t.Context(), s, cfg); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// TestAnotherSchemaIsRefusedInOneLine that says what to do, before any other record is read.
func TestAnotherSchemaIsRefusedInOneLine(t *testing.T) {
	for schema, want := range map[int]string{
		1: "no release of Keymill wrote", 3: "use the version of Keymill that wrote it", 0: "use the version", 1000: "use the version",
	} {
		r, s := newRings(t)
		meta := strings.Replace(string(rawGet(t, s, keyring.MetaRecord)), `"schema":2`, fmt.Sprintf(`"schema":%d,"later":{"x":[1]}`, schema), 1)
		rawPut(t, s, keyring.MetaRecord, []byte(meta))
		rawPut(t, s, keyring.Record, []byte("another layout"))
		_, err := Open(t.Context(), readOnlyStore{s}, r.cfg)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("schema %d: %v", schema, err)
		}
	}
}

// TestAForgedKeyIsNeverPublished: a record that was made without the master key, a public half of
// another key, a private half of another key, and another kid, each also with a valid tag.
//
// I27.
func TestAForgedKeyIsNeverPublished(t *testing.T) {
	for what, forge := range map[string]func(r *Rings, tx storage.Tx) error{
		"another public half": func(r *Rings, tx storage.Tx) error {
			return changeRing(tx, func(k *Key) { k.Public, _ = keytype.MarshalPublic(edKey(t).Public()) })
		},
		"another kid": func(r *Rings, tx storage.Tx) error {
			var failed error
			err := changeRing(tx, func(k *Key) {
				box, err := tx.Get(privateKey(k.KID))
				der, openErr := r.vault.Open(privateKey(k.KID), box)
				k.KID = "another"
				box, sealErr := r.vault.Seal(privateKey(k.KID), der)
				failed = errors.Join(err, openErr, sealErr, tx.Put(privateKey(k.KID), box))
			})
			return errors.Join(err, failed)
		},
		"another private half": func(r *Rings, tx storage.Tx) error {
			ring, err := getRing(tx, EdDSA)
			return errors.Join(err, r.putPrivate(tx, ring.Keys[0].KID, edKey(t)))
		},
		"another private half of an imported key": func(r *Rings, tx storage.Tx) error {
			ring, err := getRing(tx, EdDSA)
			return errors.Join(err, changeRing(tx, func(k *Key) { k.Imported = true }), r.putPrivate(tx, ring.Keys[0].KID, edKey(t)))
		},
	} {
		r, s := newRings(t)
		cfg := r.cfg
		if err := r.Store().Update(t.Context(), func(tx storage.Tx) error { return forge(r, tx) }); err != nil {
			t.Fatal(err)
		}
		cfg.Changed = func(keys []PublicKey) { t.Errorf("%s: %v was published", what, keys) }
		if _, err := Open(t.Context(), s, cfg); err == nil {
			t.Errorf("%s: the store opened", what)
		}
	}
}

// changeRing changes the first key of the ring, with a tag.
func changeRing(tx storage.Tx, change func(*Key)) error {
	ring, err := getRing(tx, EdDSA)
	if err != nil {
		return err
	}
	change(&ring.Keys[0])
	return putRing(tx, ring)
}

// TestALostRingIsNeverMadeAgain: neither at a start nor by a server that runs. The server goes on with
// the keys in memory.
//
// I24.
func TestALostRingIsNeverMadeAgain(t *testing.T) {
	for _, lost := range []string{ringKey(EdDSA), "manifest"} {
		r, s := newRings(t)
		before := r.Published()
		if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(lost) }); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: a rotation gave %v", lost, err)
		}
		if err := r.Reload(t.Context()); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: reading the keys gave %v", lost, err)
		}
		if now := r.Published(); len(now) != len(before) || now[0].KID != before[0].KID {
			t.Errorf("%s: the server publishes %v, before %v", lost, now, before)
		}
		if _, err := r.Sign(t.Context(), EdDSA, "at+jwt", []byte("{}"), r.Now()); err != nil {
			t.Errorf("%s: the server does not sign: %v", lost, err)
		}
		if _, err := Open(t.Context(), s, r.cfg); !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "record "+lost+" is damaged") {
			t.Errorf("%s: a start gave %v", lost, err)
		}
	}
}

// TestTheMasterKeyCanBeChangedAgain, with and without a start in between.
func TestTheMasterKeyCanBeChangedAgain(t *testing.T) {
	for _, start := range []bool{true, false} {
		r, s := newRings(t)
		cfg, published := r.cfg, r.Published()
		for n := range 3 {
			next, _ := NewMasterKey()
			if err := ChangeMasterKey(t.Context(), s, MasterKeyChange{Old: cfg.Master, Next: next, By: "test"}); err != nil {
				t.Fatalf("change %d: %v", n, err)
			}
			cfg.Master = next
			if !start && n < 2 {
				continue
			}
			again, err := Open(t.Context(), s, cfg)
			if err != nil {
				t.Fatalf("start after change %d: %v", n, err)
			}
			if now := again.Published(); now[0].KID != published[0].KID {
				t.Errorf("change %d: %v are published, before %v", n, now, published)
			}
		}
	}
}

// TestAChangeOfTheMasterKeyLeavesOneKeyThatOpens, whichever Update of it fails, and the old key and
// its keyring open nothing afterwards.
//
// I26.
func TestAChangeOfTheMasterKeyLeavesOneKeyThatOpens(t *testing.T) {
	for fail := range int64(4) {
		f := &faultyStore{Store: openStore(t, filepath.Join(t.TempDir(), "db"))}
		r := ringsOf(t, f)
		old, cfg := r.cfg.Master, r.cfg
		next, _ := NewMasterKey()
		before, oldKeyring := r.Published(), rawGet(t, f, keyring.Record)
		updates := int64(0)
		f.afterUpdate = func() {
			if updates++; updates == fail {
				f.failUpdates.Store(1)
			}
		}
		if fail == 0 {
			f.failUpdates.Store(1)
		}
		err := ChangeMasterKey(t.Context(), f, MasterKeyChange{Old: old, Next: next, By: "test"})
		opens := []MasterKey{}
		for _, master := range []MasterKey{old, next} {
			cfg.Master = master
			again, openErr := Open(t.Context(), f, cfg) // one of these may fail as injected
			if errors.Is(openErr, errInjected) {
				again, openErr = Open(t.Context(), f, cfg)
			}
			if openErr == nil {
				opens = append(opens, master)
				if now := again.Published(); len(now) < len(before) || now[0].KID != before[0].KID {
					t.Errorf("update %d: %v are published, before %v", fail, now, before)
				}
				if again.store.Retagging() {
					t.Errorf("update %d: the change has not ended", fail)
				}
			} else if !errors.Is(openErr, ErrMasterKey) {
				t.Errorf("update %d: %v", fail, openErr)
			}
		}
		want := next
		if fail == 0 {
			want = old
		}
		if len(opens) != 1 || opens[0] != want || (err != nil) != (fail == 0) {
			t.Fatalf("update %d: %d keys open the store, and the change gave %v", fail, len(opens), err)
		}
		if fail == 0 {
			continue
		}
		rawPut(t, f, keyring.Record, oldKeyring)
		cfg.Master = old
		if _, err := Open(t.Context(), f, cfg); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("update %d: the old keyring that was put back: %v", fail, err)
		}
	}
}
