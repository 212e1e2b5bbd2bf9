package audit

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/sealed"
	"keymill/storage/storagetest"
)

// sealedStore returns a store that checks tags, and the one below it.
func sealedStore(t *testing.T) (s *sealed.Store, base storage.Store) {
	t.Helper()
	base, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	keys := sealed.Keys{Database: "test", Current: sealed.Generation{Number: 1, DataKey: [32]byte{1}}}
	if err := base.Update(t.Context(), func(tx storage.Tx) error {
		return sealed.Create(tx, keys, func(storage.Tx) error { return nil })
	}); err != nil {
		t.Fatal(err)
	}
	if s, err = sealed.New(t.Context(), storagetest.RerunningIfAsked(base), keys); err != nil {
		t.Fatal(err)
	}
	return s, base
}

// stored returns the bytes of a range below the tags.
func stored(t *testing.T, base storage.Store, start, end string) map[string]string {
	t.Helper()
	var found map[string]string
	if err := base.View(t.Context(), func(r storage.Reader) error {
		found = map[string]string{}
		for e, err := range r.Scan(start, end) {
			if err != nil {
				return err
			}
			found[e.Key] = string(e.Value)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// forge flips one bit of each of the records, or inserts one without a tag.
func forge(t *testing.T, base storage.Store, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := base.Update(t.Context(), func(tx storage.Tx) error {
			value, err := tx.Get(key)
			if errors.Is(err, storage.ErrNotFound) {
				value, err = []byte(`{"seq":0}`), nil
			}
			if err != nil {
				return err
			}
			value[len(value)/2] ^= 1
			return tx.Put(key, value)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func newKeys(t *testing.T, base storage.Store) (keys []string) {
	for key := range stored(t, base, newPrefix, newEnd) {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// TestADamagedNewRecordIsNotChained: it stays as it is and is reported, and all others are chained,
// also if there are more damaged ones than one Update may read.
//
// I23.
func TestADamagedNewRecordIsNotChained(t *testing.T) {
	for _, n := range []int{1, 200} {
		s, base := sealedStore(t)
		decide(t, s, 0, n+100)
		keys := newKeys(t, base)
		forge(t, base, keys[1:n+1]...) // without number 0, a log has lost its beginning
		strict := map[string]string{
			newPrefix + "20260301T120000.000000000Z-00000000000000aa": `{"seq":0,"time":"2026-03-01T12:00:00Z","action":"test","by":"x","previous":"","more":1}`,
			newPrefix + "20260301T120000.000000000Z-00000000000000bb": `{"seq":0,"time":"2026-03-01T12:00:00Z","action":"test","by":"x","previous":""} `,
			newPrefix + "20260301T120000.000000000Z-00000000000000cc": `{"seq":0,"time":"0001-01-01T00:00:00Z","action":"test","by":"x","previous":""}`,
			newPrefix + "20260301T120000.000000000Z-00000000000000dd": `{"seq":3,"time":"2026-03-01T12:00:00Z","action":"test","by":"x","previous":""}`,
			newPrefix + "x": `{"seq":0,"time":"2026-03-01T12:00:00Z","action":"test","by":"x","previous":""}`,
		}
		for key, value := range strict {
			if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
				t.Fatal(err)
			}
		}
		before := stored(t, base, newPrefix, newEnd)
		damaged := map[string]bool{}
		c := chainer{store: s, damaged: func(err error) {
			var d *storage.DamageError
			if !errors.As(err, &d) || strings.Contains(err.Error(), `"x"`) {
				t.Errorf("reported as %v", err)
				return
			}
			damaged[d.Key] = true
		}}
		moved, _, err := c.moveAll(t.Context())
		if err != nil || moved != 100 {
			t.Fatalf("%d damaged: moved %d, %v", n, moved, err)
		}
		verify(t, s, 100)
		after := stored(t, base, newPrefix, newEnd)
		if len(after) != n+len(strict) || len(damaged) != len(after) {
			t.Errorf("%d records were left and %d reported, want %d", len(after), len(damaged), n+len(strict))
		}
		for key, value := range after {
			if before[key] != value || !damaged[key] {
				t.Errorf("%s was changed or not reported", key)
			}
		}
		if moved, err = Chain(t.Context(), s); err != nil || moved != 0 {
			t.Errorf("the second time: moved %d, %v", moved, err)
		}
	}
}

// TestADamagedRecordOfTheChainHasANumber in Verify and in Read, keeps its bytes, and stops nothing.
//
// I19, I23.
func TestADamagedRecordOfTheChainHasANumber(t *testing.T) {
	for _, seq := range []uint64{1, 7, 20, 40} {
		s, base := sealedStore(t)
		decide(t, s, 0, 40)
		chain(t, s, 40)
		forge(t, base, logKey(seq))
		before := stored(t, base, logPrefix, logEnd)
		words := fmt.Sprintf("record %d is unreadable", seq)
		if n, err := Verify(t.Context(), s); n != seq || !says(err, words) || !errors.Is(err, storage.ErrForged) {
			t.Errorf("Verify: %d, %v", n, err)
		}
		if _, err := VerifyNewest(t.Context(), s); !says(err, words) {
			t.Errorf("VerifyNewest: %v", err)
		}
		if err := VerifyUntil(t.Context(), s, 40); !says(err, words) {
			t.Errorf("VerifyUntil: %v", err)
		}
		decide(t, s, 40, 5)
		for _, forward := range []bool{true, false} {
			records := readAll(t, s, Query{Forward: forward, Limit: 10})
			if len(records) != 45 || records[seq-1].Action != "audit.unreadable" || records[seq-1].Seq != seq || records[44].Target != "44" {
				t.Errorf("forward %v: read %d records, %+v", forward, len(records), records[seq-1])
			}
		}
		for _, target := range []string{"3", "44"} {
			n := map[string]int{"3": 3, "44": 44}[target]
			if r, err := Find(t.Context(), s, noon.Add(1), "test", target); err != nil || r == nil || r.Seq != uint64(n+1) {
				t.Errorf("Find %s: %+v, %v", target, r, err)
			}
		}
		after := stored(t, base, logPrefix, logEnd)
		for key, value := range before {
			if after[key] != value {
				t.Errorf("%s was changed", key)
			}
		}
	}
}

// TestCheckRecordIsStrict, record by record.
func TestCheckRecordIsStrict(t *testing.T) {
	s := openStore(t)
	decide(t, s, 0, 3)
	for n := range 2 { // the records that wait, then the chain
		for key, value := range stored(t, s, "audit/", "audit0") {
			if err := CheckRecord(key, []byte(value)); err != nil {
				t.Errorf("%s: %v", key, err)
			}
			for _, bad := range [][]byte{
				[]byte(value + " "), []byte(value[:len(value)-1] + `,"more":1}`), []byte(strings.Replace(value, `"seq"`, `"Seq"`, 1)),
				bytes.Replace([]byte(value), []byte(`{`), []byte(`{"seq":1,`), 1), nil, []byte("{}"), []byte("null"),
			} {
				var d *storage.DamageError
				if err := CheckRecord(key, bad); !errors.As(err, &d) || d.Key != key {
					t.Errorf("%s accepts %s: %v", key, bad, err)
				}
			}
		}
		if n == 0 {
			chain(t, s, 3)
		}
	}
}

// TestAnImpossibleTimeIsDamage in a record of the log as in every other one.
func TestAnImpossibleTimeIsDamage(t *testing.T) {
	for year, want := range map[int]bool{1: false, 1979: false, 1980: true, 2026: true, 2261: true, 2262: false, 9999: false} {
		r := bounded(Event{Action: "test"})
		r.Time, r.Seq, r.Previous = time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC), 1, emptyHead().Hash
		local := r
		local.Time = r.Time.In(time.FixedZone("", 3600))
		for r, want := range map[*Record]bool{&r: want, &local: false} {
			b, err := encode(*r)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckRecord(logKey(1), b); (err == nil) != want {
				t.Errorf("%v: %v", r.Time, err)
			}
		}
	}
}
