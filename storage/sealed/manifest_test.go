package sealed

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"keymill/storage"
)

// administrators has a record of every kind that the manifest covers.
var administrators = []string{
	"ring/EdDSA", "1", "retired/EdDSA/k1", "1", "tombstone/k0", "1", "refresh/secret/1", "1", "audience/orders", "1",
	"client/billing", "1", "client/web", "1", "epoch", "1", "issuer", "1", "verifier/name/orders", "1", "verifier/secret/1", "1",
}

// others are records that it does not cover.
var others = []string{"user/7", "1", "family/f", "1", "clients", "1", "denied/j", "1", "epochs", "1", "served/orders", "1", "behind", "1"}

// TestTheManifestNamesWhatIsMissingAddedOrOlder for every kind of record that administrators write.
//
// I24.
func TestTheManifestNamesWhatIsMissingAddedOrOlder(t *testing.T) {
	for n := 0; n < len(administrators); n += 2 {
		key := administrators[n]
		base, s := create(t, append(administrators, others...)...)
		older, _ := get(t, base, key)
		put(t, s, key, "2")
		newest, _ := get(t, base, key)
		want := func(what, finding string) {
			t.Helper()
			err := s.CheckManifest(t.Context())
			switch {
			case finding == "" && err != nil:
				t.Errorf("%s, %s: %v", key, what, err)
			case finding != "" && (!errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "record "+key+" is damaged: ") || !strings.Contains(err.Error(), finding)):
				t.Errorf("%s, %s: got %v, want %q", key, what, err, finding)
			}
		}
		want("whole", "")
		remove(t, base, key)
		want("removed", "missing")
		put(t, base, key, older)
		want("older", "older")
		put(t, base, key, "forged")
		want("forged", "tag does not fit")
		put(t, base, key, newest)
		remove(t, s, key)
		want("removed by us", "")
		put(t, base, key, newest)
		want("added", "it was put back")
	}
}

// TestTheManifestItselfCannotBeReplaced by an older one, or lose a page.
func TestTheManifestItselfCannotBeReplaced(t *testing.T) {
	keys := append(administrators, others...)
	page := pageKey(pageName("client/web"))
	for what, change := range map[string]func(base storage.Store, before map[string]string){
		"no root":       func(base storage.Store, _ map[string]string) { remove(t, base, rootKey) },
		"no page":       func(base storage.Store, _ map[string]string) { remove(t, base, page) },
		"an older root": func(base storage.Store, before map[string]string) { put(t, base, rootKey, before[rootKey]) },
		"an older page": func(base storage.Store, before map[string]string) { put(t, base, page, before[page]) },
		"a forged root": func(base storage.Store, _ map[string]string) { put(t, base, rootKey, "{}") },
		"a forged page": func(base storage.Store, _ map[string]string) { put(t, base, page, "{}") },
		"older together": func(base storage.Store, before map[string]string) {
			put(t, base, rootKey, before[rootKey], page, before[page])
		},
	} {
		base, s := create(t, keys...)
		before := map[string]string{}
		for _, key := range []string{rootKey, page} {
			before[key], _ = get(t, base, key)
		}
		put(t, s, "client/web", "2")
		change(base, before)
		if err := s.CheckManifest(t.Context()); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if what == "older together" {
			continue // the next change cannot see it; the start does
		}
		if damaged := s.Damaged(); len(damaged) != 1 || !strings.HasPrefix(damaged[0].Key, rootKey) {
			t.Errorf("%s: it remembers %v", what, damaged)
		}
		err := s.Update(t.Context(), func(tx storage.Tx) error {
			tx.Put("client/web", []byte("3")) // nothing is written over damage, also if the error is ignored
			return nil
		})
		if !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: an update gave %v", what, err)
		}
	}
}

// TestAnOlderManifestWithItsRecordsHasAnOlderVersion: the clock record holds the version, so that
// keystore notices it.
func TestAnOlderManifestWithItsRecordsHasAnOlderVersion(t *testing.T) {
	_, s := create(t, administrators...)
	version := func() (v uint64) {
		if err := s.View(t.Context(), func(r storage.Reader) (err error) {
			v, err = ManifestVersion(r)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return v
	}
	last := version()
	put(t, s, others...)
	put(t, s, "client/web", "1") // the same bytes
	if v := version(); v != last {
		t.Errorf("version %d after no change, it was %d", v, last)
	}
	for what, change := range map[string]func(){
		"put": func() { put(t, s, "client/web", "2") }, "new": func() { put(t, s, "client/new", "1") }, "delete": func() { remove(t, s, "epoch") },
	} {
		change()
		if v := version(); v != last+1 {
			t.Errorf("%s: version %d, it was %d", what, v, last)
		}
		last = version()
	}
}

// TestTheManifestOfManyClientsIsChecked in several Views, and names ten findings at most.
func TestTheManifestOfManyClientsIsChecked(t *testing.T) {
	base, s := create(t)
	const clients = 2500
	for n := 0; n < clients; n += 10 {
		var records []string
		for i := n; i < n+10; i++ {
			records = append(records, fmt.Sprintf("client/%04d", i), "1")
		}
		put(t, s, records...)
	}
	if err := s.CheckManifest(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 12 {
		remove(t, base, fmt.Sprintf("client/%04d", n*200))
	}
	err := s.CheckManifest(t.Context())
	if n := strings.Count(err.Error(), "missing"); n != maxFindings || !strings.Contains(err.Error(), "client/0200") {
		t.Errorf("%d findings: %v", n, err)
	}
}

// TestDifferencesAreOneLine: each names its record, and all are damage.
func TestDifferencesAreOneLine(t *testing.T) {
	base, s := create(t, "client/a", "1", "client/b", "1", "ring/EdDSA", "1")
	put(t, base, "client/a", "forged", "client/b", "forged")
	remove(t, base, "ring/EdDSA")
	_, some := s.ReadBelow(t.Context(), "client/", "ring/")
	for what, err := range map[string]error{"all": s.CheckManifest(t.Context()), "some": some} {
		text := fmt.Sprint(err)
		if !errors.Is(err, storage.ErrDamaged) || strings.Contains(text, "\n") || strings.Count(text, "; record ") != 2 {
			t.Errorf("%s: %s", what, text)
		}
	}
	if _, err := s.ReadBelow(t.Context(), "audience/"); err != nil {
		t.Errorf("below another prefix: %v", err)
	}
}

// TestReadBelowReturnsWhatItHasCompared: the records below the prefixes without their tags, and none if one differs.
func TestReadBelowReturnsWhatItHasCompared(t *testing.T) {
	base, s := create(t, append(administrators, others...)...)
	put(t, s, "client/web", "2")
	records, err := s.ReadBelow(t.Context(), "ring/", "client/")
	text := ""
	for _, e := range records {
		text += fmt.Sprintf("%s=%s ", e.Key, e.Value)
	}
	if err != nil || text != "ring/EdDSA=1 client/billing=1 client/web=2 " {
		t.Errorf("%s, %v", text, err)
	}
	remove(t, base, "client/billing")
	if records, err := s.ReadBelow(t.Context(), "ring/", "client/"); !errors.Is(err, storage.ErrDamaged) || records != nil {
		t.Errorf("%v, %v", records, err)
	}
}
