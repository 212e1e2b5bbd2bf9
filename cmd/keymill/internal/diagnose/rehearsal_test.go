package diagnose

import (
	"errors"
	"path/filepath"
	"testing"

	"keymill/storage"
)

// TestARehearsalSeesItsWritesAndForgetsThem.
func TestARehearsalSeesItsWritesAndForgetsThem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base, err := storage.OpenBolt(filepath.Join(t.TempDir(), "store"), storage.BoltOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(s storage.Store, pairs ...string) {
		t.Helper()
		must(s.Update(ctx, func(tx storage.Tx) error {
			for i := 0; i < len(pairs); i += 2 {
				if err := tx.Put(pairs[i], []byte(pairs[i+1])); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	all := func(s storage.Store) (got string) {
		t.Helper()
		must(s.View(ctx, func(r storage.Reader) error {
			got = ""
			for e, err := range r.Scan("a", "z") {
				if err != nil {
					return err
				}
				got += e.Key + "=" + string(e.Value) + " "
			}
			return nil
		}))
		return got
	}
	put(base, "b", "1", "d", "1", "f", "1")
	r := newRehearsal(base)
	put(r, "a", "2", "d", "2", "e", "")
	must(r.Update(ctx, func(tx storage.Tx) error { return tx.Delete("f") }))
	if err := r.Update(ctx, func(tx storage.Tx) error { tx.Put("x", nil); return errors.New("no") }); err == nil {
		t.Error("an error is swallowed")
	}
	if got, want := all(r), "a=2 b=1 d=2 e= "; got != want {
		t.Errorf("rehearsal %q, want %q", got, want)
	}
	must(r.View(ctx, func(tx storage.Reader) error {
		got, err := tx.GetAll("b", "d", "f", "zz")
		if err != nil || string(got[0]) != "1" || string(got[1]) != "2" || got[2] != nil || got[3] != nil {
			t.Errorf("GetAll: %q, %v", got, err)
		}
		if _, err := tx.Get("f"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a deleted record: %v", err)
		}
		return nil
	}))
	if got, want := all(base), "b=1 d=1 f=1 "; got != want {
		t.Errorf("the store has %q, want %q", got, want)
	}
}
