package applied

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

func newMarks(t *testing.T) (*Marks, *[]error) {
	t.Helper()
	store, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	damaged := &[]error{}
	now := time.Date(2026, 11, 28, 20, 0, 0, 5, time.UTC) // each decision is a second later
	return &Marks{Store: storagetest.RerunningIfAsked(store), Now: func() time.Time { now = now.Add(time.Second); return now }, Damaged: func(err error) { *damaged = append(*damaged, err) }}, damaged
}

func namesOf(list []api.Applied) (names []string) {
	for _, a := range list {
		names = append(names, a.Kind+"/"+a.Name)
	}
	return names
}

// TestAMarkIsWrittenOnce: marking again changes nothing, and has no audit record.
func TestAMarkIsWrittenOnce(t *testing.T) {
	m, _ := newMarks(t)
	first, err := m.Put(t.Context(), "client", "web", "uid:1")
	if err != nil || first.By != "uid:1" || first.At.Nanosecond() != 0 {
		t.Fatalf("got %+v, %v", first, err)
	}
	if again, err := m.Put(t.Context(), "client", "web", "uid:2"); err != nil || again != first {
		t.Errorf("got %+v, %v, want %+v", again, err, first)
	}
	if err := m.Remove(t.Context(), "client", "web", "uid:1"); err != nil {
		t.Error(err)
	}
	if err := m.Remove(t.Context(), "client", "web", "uid:1"); refusal.CodeOf(err) != "not_found" {
		t.Errorf("removed twice: %v", err)
	}
	p, err := audit.Read(t.Context(), m.Store, audit.Query{Limit: 10, Forward: true})
	if err != nil || len(p.Records) != 2 || p.Records[0].Action != "apply.mark" || p.Records[1].Action != "apply.forget" || p.Records[0].Detail["kind"] != "client" {
		t.Errorf("audit log: %+v, %v", p.Records, err)
	}
}

// TestMarksAreListedInPages, by kind and name. A name can have a slash.
func TestMarksAreListedInPages(t *testing.T) {
	m, _ := newMarks(t)
	want := []string{"audience/a", "audience/a/b", "audience/https://x.example/", "client/a", "verifier/a"}
	for _, path := range slices.Backward(want) {
		kind, name, _ := strings.Cut(path, "/")
		if _, err := m.Put(t.Context(), kind, name, "test"); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for after := ""; ; after = got[len(got)-1] {
		page, err := m.List(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, namesOf(page)...)
		if len(page) < 2 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnlyWhatCanBeAppliedIsMarked(t *testing.T) {
	m, _ := newMarks(t)
	for _, tt := range [][2]string{
		{"user", "a"}, {"", "a"}, {"Client", "a"}, {"client/x", "a"}, {"client", ""}, {"client", " a"}, {"client", "a\n"}, {"client", "é"}, {"client", strings.Repeat("a", 201)},
	} {
		if _, err := m.Put(t.Context(), tt[0], tt[1], "test"); refusal.CodeOf(err) != "invalid_request" {
			t.Errorf("%q: %v", tt, err)
		}
		if err := m.Remove(t.Context(), tt[0], tt[1], "test"); refusal.CodeOf(err) != "invalid_request" {
			t.Errorf("remove %q: %v", tt, err)
		}
	}
	if list, err := m.List(t.Context(), "", 10); err != nil || len(list) != 0 || list == nil {
		t.Errorf("%v, %v", list, err)
	}
}

// TestADamagedMarkHidesNoOther and can be removed.
func TestADamagedMarkHidesNoOther(t *testing.T) {
	m, damaged := newMarks(t)
	for _, name := range []string{"a", "b"} {
		if _, err := m.Put(t.Context(), "client", name, "test"); err != nil {
			t.Fatal(err)
		}
	}
	bad := map[string]string{
		"applied/client/a": `{"at":"2026-11-28T20:00:00Z","by":"x","more":1}`, "applied/user/a": `{"at":"2026-11-28T20:00:00Z","by":"x"}`,
		"applied/client/": `{"at":"2026-11-28T20:00:00Z","by":"x"}`, "applied/verifier/a": `{"at":"2026-11-28T20:00:00.5Z","by":"x"}`, "applied/audience/c": "",
	}
	for key, value := range bad {
		if err := m.Store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
			t.Fatal(err)
		}
		if err := CheckRecord(key, []byte(value)); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s %s: %v", key, value, err)
		}
	}
	list, err := m.List(context.Background(), "", 10)
	if err != nil || !slices.Equal(namesOf(list), []string{"client/b"}) || len(*damaged) != len(bad) {
		t.Errorf("listed %v, %v; damaged %v", list, err, *damaged)
	}
	if _, err := m.Put(t.Context(), "client", "a", "test"); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("marked over a damaged record: %v", err)
	}
	if err := m.Remove(t.Context(), "client", "a", "test"); err != nil {
		t.Error(err)
	}
}
