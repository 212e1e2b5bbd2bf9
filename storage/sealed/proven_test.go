package sealed

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"keymill/storage"
)

// TestARecordThatWasReadIsCheckedAgainWhenItChanges: what is remembered of a record counts for exactly its bytes.
func TestARecordThatWasReadIsCheckedAgainWhenItChanges(t *testing.T) {
	base, s := create(t, "client/a", "one", "client/b", "one")
	for range 2 {
		if v, err := get(t, s, "client/a"); err != nil || v != "one" {
			t.Fatalf("%q, %v", v, err)
		}
	}
	whole, err := get(t, base, "client/a")
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		changed := []byte(whole)
		changed[n] ^= 1
		put(t, base, "client/a", string(changed))
		if v, err := get(t, s, "client/a"); !errors.Is(err, storage.ErrForged) {
			t.Errorf("byte %d changed: %q, %v", n, v, err)
		}
	}
	put(t, base, "client/b", whole) // the bytes of another record
	if v, err := get(t, s, "client/b"); !errors.Is(err, storage.ErrForged) {
		t.Errorf("moved: %q, %v", v, err)
	}
	put(t, base, "client/a", whole)
	if v, err := get(t, s, "client/a"); err != nil || v != "one" {
		t.Errorf("whole again: %q, %v", v, err)
	}
	put(t, s, "client/a", "two")
	if v, err := get(t, s, "client/a"); err != nil || v != "two" {
		t.Errorf("after a change: %q, %v", v, err)
	}
}

// TestACallerCannotChangeWhatIsRemembered: a value belongs to the caller that has read it.
func TestACallerCannotChangeWhatIsRemembered(t *testing.T) {
	_, s := create(t, "client/a", "one")
	err := s.View(t.Context(), func(r storage.Reader) error {
		for range 3 {
			v, err := r.Get("client/a")
			if err != nil || string(v) != "one" {
				t.Errorf("%q, %v", v, err)
			}
			copy(v, "xxx")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFewRecordsAreRemembered: no more than the bound, and none of a kind that requests write.
func TestFewRecordsAreRemembered(t *testing.T) {
	var p proven
	for n := range maxProven + 100 {
		p.add(fmt.Sprint("client/", n), []byte("stored"), tag{})
		p.add(fmt.Sprint("family/", n), []byte("stored"), tag{})
	}
	large := make([]byte, maxProvenBytes+1)
	p.add("client/large", large, tag{})
	if _, found := p.find("client/large", large); found {
		t.Error("a large record is remembered")
	}
	if p.add("client/full", large[1:], tag{}); !slices.Equal(p.records["client/full"].stored, large[1:]) {
		t.Error("a record of the largest size is not remembered")
	}
	if len(p.records) != maxProven {
		t.Errorf("%d records, want %d", len(p.records), maxProven)
	}
	if _, found := p.find("family/1", []byte("stored")); found {
		t.Error("a session is remembered")
	}
}

// FuzzStored: whatever the database returns for a key, the value is the one that was sealed under that key, or the record
// is forged. What is remembered of records that were read before changes nothing about that.
func FuzzStored(f *testing.F) {
	st := must(newStore(nil, keysOf(2, 0))).state.Load()
	keys := []string{"client/web", "epoch", "user/7", "client/we"}
	sealed := map[string]string{}
	for n, key := range keys {
		for _, g := range []*tagger{st.previous, st.current} {
			g.seal(key, []byte{byte(n)}, func(stored []byte) error {
				sealed[key] += string(stored)
				f.Add(uint8(n), stored)
				f.Add(uint8(n+1), stored)
				return nil
			})
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, stored []byte) {
		key := keys[int(n)%len(keys)]
		before := string(stored)
		for range 2 {
			value, _, ok := st.check(key, stored)
			whole := len(before) == 1+trailerBytes && (before == sealed[key][:len(before)] || before == sealed[key][len(before):])
			if ok != whole || ok && string(value) != before[:1] || string(stored) != before {
				t.Fatalf("%s %x: %x, %v", key, before, value, ok)
			}
			st.check(key, []byte(sealed[key][1+trailerBytes:])) // so that it is remembered
		}
	})
}
