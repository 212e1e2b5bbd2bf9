package storage_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"keymill/storage"
	"keymill/storage/bolt"
)

// put writes pairs of key and value in one Update.
func put(t *testing.T, s storage.Store, pairs ...string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(pairs[i], []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// list renders all records below "z" as "key=value ".
func list(t *testing.T, s storage.Store) (text string) {
	t.Helper()
	if err := s.View(t.Context(), func(r storage.Reader) error {
		text = ""
		for e, err := range r.Scan("a", "z") {
			if err != nil {
				return err
			}
			text += e.Key + "=" + string(e.Value) + " "
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return text
}

func openBase(t *testing.T) storage.Store {
	t.Helper()
	base, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	return base
}

func TestADryRunSeesItsWritesAndForgetsThem(t *testing.T) {
	base := openBase(t)
	put(t, base, "b", "1", "d", "1", "f", "1")
	s := storage.DryRun(base)
	put(t, s, "a", "2", "d", "2", "e", "")
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete("f") }); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		return errors.Join(tx.Put("x", nil), refused)
	}); !errors.Is(err, refused) {
		t.Errorf("Update returned %v, want the error of its function", err)
	}
	if got, want := list(t, s), "a=2 b=1 d=2 e= "; got != want {
		t.Errorf("the dry run holds %q, want %q", got, want)
	}
	if err := s.View(t.Context(), func(r storage.Reader) error {
		got, err := r.GetAll("b", "d", "f", "zz")
		if err != nil || string(got[0]) != "1" || string(got[1]) != "2" || got[2] != nil || got[3] != nil {
			t.Errorf("GetAll returned %q, %v", got, err)
		}
		if _, err := r.Get("f"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Get of a deleted record returned %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, base), "b=1 d=1 f=1 "; got != want {
		t.Errorf("the base holds %q, want %q", got, want)
	}
}

// TestADryRunHasLimitsPerUpdateOnly: one Update touches at most 64 keys as in any
// Store, several of them together touch more.
func TestADryRunHasLimitsPerUpdateOnly(t *testing.T) {
	s := storage.DryRun(openBase(t))
	fill := func(from, n int) error {
		return s.Update(t.Context(), func(tx storage.Tx) error {
			for i := from; i < from+n; i++ {
				tx.Put(fmt.Sprintf("k%03d", i), nil)
			}
			return nil // the limit counts although the function ignores it
		})
	}
	for i := range 3 {
		if err := fill(i*storage.MaxUpdateKeys, storage.MaxUpdateKeys); err != nil {
			t.Fatalf("Update %d: %v", i, err)
		}
	}
	before := list(t, s)
	if err := fill(500, storage.MaxUpdateKeys+1); !errors.Is(err, storage.ErrLimit) {
		t.Errorf("an Update of one key too many returned %v", err)
	}
	if after := list(t, s); after != before {
		t.Errorf("the refused Update left %q", after)
	}
}

// TestAnOverlayListsItsWritesInKeyOrder, each key once and without what was only read.
func TestAnOverlayListsItsWritesInKeyOrder(t *testing.T) {
	base := openBase(t)
	put(t, base, "read", "1", "gone", "1")
	if err := base.View(t.Context(), func(r storage.Reader) error {
		o := storage.NewOverlay(r)
		if o.Wrote() || o.Bytes() != 0 {
			t.Errorf("a new Overlay wrote: %v, %d bytes", o.Wrote(), o.Bytes())
		}
		_, err := o.Get("read")
		if err := errors.Join(err, o.Put("z", []byte("1")), o.Put("a", nil), o.Delete("gone"), o.Put("z", []byte("2"))); err != nil {
			return err
		}
		got := ""
		for w := range o.Writes() {
			got += fmt.Sprintf("%s=%s,%v ", w.Key, w.Value, w.Deleted)
		}
		if want := "a=,false gone=,true z=2,false "; got != want || !o.Wrote() || o.Err() != nil {
			t.Errorf("writes are %q, want %q; wrote %v, error %v", got, want, o.Wrote(), o.Err())
		}
		o.End()
		if err := o.Put("late", nil); err == nil {
			t.Error("a write after End returned no error")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
