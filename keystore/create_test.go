package keystore

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"keymill/storage"
	"keymill/storage/audit"
)

func isEmpty(t *testing.T, s storage.Store) bool {
	t.Helper()
	empty := true
	if err := s.View(t.Context(), func(r storage.Reader) error {
		for _, err := range r.Scan(" ", "~") {
			empty = false
			return err
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return empty
}

// TestOnlyCreateMakesAStore: Open refuses an empty store and leaves it empty.
func TestOnlyCreateMakesAStore(t *testing.T) {
	master, _ := NewMasterKey()
	s := openStore(t, filepath.Join(t.TempDir(), "db"))
	if _, err := Open(t.Context(), s, trial(master)); !errors.Is(err, ErrNoRecords) || !isEmpty(t, s) {
		t.Errorf("an empty store: %v; it is empty: %v", err, isEmpty(t, s))
	}
	id, err := Create(t.Context(), s, trial(master), "uid:7", "1.2.3")
	if err != nil || len(id) != 32 {
		t.Fatalf("create: %q, %v", id, err)
	}
	other, _ := NewMasterKey() // Create reads only the identity of a store that exists
	if again, err := Create(t.Context(), s, trial(other), "uid:8", "1.2.4"); again != id || !errors.Is(err, ErrExists) {
		t.Errorf("create again: %q, %v; want %q", again, err, id)
	}
	if _, err := Open(t.Context(), s, trial(master)); err != nil {
		t.Errorf("open: %v", err)
	}
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete("meta") }); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), s, trial(master), "uid:7", "1.2.3"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("create over records without meta: %v", err)
	}
}

// TestTheAuditLogSaysWhoCreatedAStoreAndHow: when, by whom and with which version.
func TestTheAuditLogSaysWhoCreatedAStoreAndHow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		var meta storage.Meta
		err := s.View(t.Context(), func(r storage.Reader) (err error) {
			meta, err = storage.ReadMeta(r)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		create(t, s, trial(MasterKey{})) // it exists, so this adds no record
		if _, err := audit.Chain(t.Context(), r.Store()); err != nil {
			t.Fatal(err)
		}
		page, err := audit.Read(t.Context(), r.Store(), audit.Query{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		var found []audit.Record
		for _, r := range page.Records {
			if r.Action == "store.create" {
				found = append(found, r)
			}
		}
		if len(found) != 1 {
			t.Fatalf("%d records of the creation, want 1: %v", len(found), page.Records)
		}
		if r := found[0]; r.By != "uid:7" || r.Detail["version"] != "1.2.3" || r.Target != meta.DatabaseID || !r.Time.Equal(meta.Created) {
			t.Errorf("the record is %+v, the store %+v", r, meta)
		}
	})
}

// TestARingIsNewOnlyAtTheFirstOpen: a ring that Create made and the first Open did not configure is
// like any ring that is added later. Caches have a set without its key, so it does not sign at once.
func TestARingIsNewOnlyAtTheFirstOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		master, _ := NewMasterKey()
		cfg := trial(master)
		cfg.Algorithms = []string{EdDSA, RS256}
		s := openStore(t, filepath.Join(t.TempDir(), "db"))
		create(t, s, cfg)
		for _, tt := range []struct {
			algorithms []string
			signing    int
		}{{[]string{RS256}, 1}, {[]string{RS256, EdDSA}, 1}} {
			cfg.Algorithms = tt.algorithms
			r, err := Open(t.Context(), s, cfg)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := r.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			signing := 0
			for _, k := range keys {
				if k.Stage == Active {
					signing++
				}
			}
			if signing != tt.signing {
				t.Errorf("with %v %d keys sign, want %d: %+v", tt.algorithms, signing, tt.signing, keys)
			}
		}
	})
}

// TestAStoreWithAnyRecordIsNotEmpty: one without meta is damaged, and no new keys are put beside its records.
func TestAStoreWithAnyRecordIsNotEmpty(t *testing.T) {
	for _, key := range []string{"user/7", "~", "~~x", " ", "0", storage.RestoreKey} {
		master, _ := NewMasterKey()
		s := openStore(t, filepath.Join(t.TempDir(), "db"))
		rawPut(t, s, key, nil)
		_, created := Create(t.Context(), s, trial(master), "test", "test")
		_, opened := Open(t.Context(), readOnlyStore{s}, trial(master))
		for what, err := range map[string]error{"Create": created, "Open": opened} {
			want := "the store has records (\"" + key + "\") but no meta record"
			if key == storage.RestoreKey {
				want = "a restore into the database has begun and has not ended"
			}
			if err == nil || errors.Is(err, ErrNoRecords) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q, %s: %v", key, what, err)
			}
		}
	}
}

// TestAStopDoesNotWaitForAKey: an RSA key can take longer on a slow machine than a stop may.
func TestAStopDoesNotWaitForAKey(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for range 5 { // a key can be made before this goroutine has a processor again
		if _, err := generate(ctx, RS256); errors.Is(err, context.Canceled) {
			return
		}
	}
	t.Error("a stop waited for an RSA key, five times")
}
