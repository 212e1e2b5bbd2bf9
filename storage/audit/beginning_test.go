package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/storage"
)

// remove removes the records of the log that which selects, below the tags.
func remove(t *testing.T, s storage.Store, which func(key string) bool) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(stored(t, s, "audit/", "audit0")))
	for some := range slices.Chunk(slices.DeleteFunc(keys, func(key string) bool { return !which(key) }), 60) {
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			for _, key := range some {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func number(key string) uint64 {
	seq, isNumber := place(key)
	if !isNumber || !strings.HasPrefix(key, logPrefix) {
		return 0
	}
	return seq
}

// TestAMissingBeginningIsDamage, in logs of one part and of several, before the next records are added and
// after it: whatever was removed of the first records, the number of the first one that is left is said.
//
// I19.
func TestAMissingBeginningIsDamage(t *testing.T) {
	const beginning = "missing from the beginning; the first one that is left is number "
	upTo := func(n uint64) func(string) bool {
		return func(key string) bool { return number(key) > 0 && number(key) <= n }
	}
	for _, total := range []uint64{40, maxPage + 200} {
		whole := openStore(t)
		decide(t, whole, 0, int(total))
		chain(t, whole, int(total))
		for _, tt := range []struct {
			name       string
			removed    func(key string) bool
			now, later string // what is said, before and after the next records are chained
		}{
			{"nothing", func(string) bool { return false }, "", ""},
			{"the first", upTo(1), "record 1 is " + beginning + "2", "record 1 is " + beginning + "2"},
			{"the first ten", upTo(10), "records 1 to 10 are " + beginning + "11", "records 1 to 10 are " + beginning + "11"},
			{"all but the last", upTo(total - 1), fmt.Sprintf("are %s%d", beginning, total), fmt.Sprintf("are %s%d", beginning, total)},
			{"all but the head", upTo(total), fmt.Sprintf("are missing from the beginning; none is left, and the head says that %d is the last", total), fmt.Sprintf("are %s%d", beginning, total+1)},
			{"the head", func(key string) bool { return key == headKey }, "the head says that 0 is the last record", ""},
			{"the head and the first", func(key string) bool { return key == headKey || number(key) == 1 }, "record 1 is " + beginning + "2", "record 1 is " + beginning + "2"},
			{"all", func(key string) bool { return true }, "all records are missing: store.create, ", "record 1 is test of 2026-03-01T12:00:00Z, and the first record of every store is store.create"},
			{"all, and others wait", func(key string) bool { return !strings.HasPrefix(key, newPrefix) }, "all records are missing: store.create, ", "record 1 is test of "},
		} {
			s := storage.DryRun(whole)
			if strings.HasSuffix(tt.name, "wait") {
				decide(t, s, int(total), 5)
			}
			remove(t, s, tt.removed)
			check := func(when, want string) {
				t.Helper()
				n, err := Verify(t.Context(), s)
				_, newest := VerifyNewest(t.Context(), s)
				if !says(err, want) || strings.Contains(want, "missing") && n != 1 {
					t.Errorf("%s of %d, %s: Verify: %d, %v", tt.name, total, when, n, err)
				}
				if !says(newest, want) {
					t.Errorf("%s of %d, %s: VerifyNewest: %v", tt.name, total, when, newest)
				}
			}
			check("at once", tt.now)
			decide(t, s, int(total)+10, 3)
			if _, err := Chain(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			check("later", tt.later)
		}
	}
}

// TestAMissingBeginningHidesNoOtherDamage, neither of the newest records nor of those before them.
//
// I19.
func TestAMissingBeginningHidesNoOtherDamage(t *testing.T) {
	const total = 2*maxPage + 500
	whole := openStore(t)
	decide(t, whole, 0, total)
	chain(t, whole, total)
	for _, tt := range []struct {
		seq          uint64
		newest, rest string
	}{
		{0, "", ""}, {11, "", "record 11 is missing"}, {700, "", "record 700 is missing"}, {2000, "record 2000 is missing", ""},
	} {
		s := storage.DryRun(whole)
		remove(t, s, func(key string) bool { n := number(key); return n > 0 && (n < 10 || n == tt.seq) })
		oldest, err := VerifyNewest(t.Context(), s)
		if oldest != 1501 || !says(err, "first one that is left is number 10") || !says(err, tt.newest) && tt.newest != "" {
			t.Errorf("%d: VerifyNewest: %d, %v", tt.seq, oldest, err)
		}
		if err := VerifyUntil(t.Context(), s, oldest-1); !says(err, tt.rest) {
			t.Errorf("%d: VerifyUntil: %v", tt.seq, err)
		}
		if n, err := Verify(t.Context(), s); n != 1 || !says(err, "first one that is left is number 10") || tt.seq > 0 && !says(err, fmt.Sprintf("record %d is missing", tt.seq)) {
			t.Errorf("%d: Verify: %d, %v", tt.seq, n, err)
		}
	}
}

// TestTheFirstRecordMayWait: a store that was made and not served yet is whole. The record becomes number
// 1 also if the wall clock was set back before more than a page of others was written.
func TestTheFirstRecordMayWait(t *testing.T) {
	for _, earlier := range []int{0, 1, pageRecords - 1, pageRecords, 3*pageRecords + 5} {
		s := openStore(t)
		decide(t, s, 1, earlier)
		if err := s.Update(t.Context(), func(tx storage.Tx) error {
			return Append(tx, noon.Add(time.Hour), Event{Action: created, By: "uid:0", Target: "database"})
		}); err != nil {
			t.Fatal(err)
		}
		verify(t, s, 0)
		if oldest, err := VerifyNewest(t.Context(), s); oldest != 1 || err != nil {
			t.Errorf("%d earlier ones: VerifyNewest: %d, %v", earlier, oldest, err)
		}
		chain(t, s, 1+earlier)
		verify(t, s, uint64(1+earlier))
		records := readAll(t, s, Query{Forward: true, Limit: 1000})
		if len(records) != 1+earlier || records[0].Action != created {
			t.Fatalf("%d earlier ones: %+v", earlier, records)
		}
		for n, r := range records[1:] {
			if r.Target != fmt.Sprint(n+1) {
				t.Errorf("%d earlier ones: record %d is %+v", earlier, n+2, r)
			}
		}
	}
}

// TestWhatTheLogCannotShow is what docs/security.md says of it: each of these leaves a whole log.
func TestWhatTheLogCannotShow(t *testing.T) {
	for name, change := range map[string]func(s storage.Store, then map[string]string){
		"the newest records, with the head of that time": func(s storage.Store, then map[string]string) {
			remove(t, s, func(key string) bool { return number(key) > 20 })
			putBack(t, s, then, headKey)
		},
		"all, and the log as it was": func(s storage.Store, then map[string]string) {
			remove(t, s, func(string) bool { return true })
			putBack(t, s, then, slices.Collect(maps.Keys(then))...)
		},
		"records that wait": func(s storage.Store, then map[string]string) {
			remove(t, s, func(key string) bool { return strings.HasPrefix(key, newPrefix) })
		},
	} {
		s := openStore(t)
		decide(t, s, 0, 20)
		chain(t, s, 20)
		then := stored(t, s, "audit/", "audit0")
		decide(t, s, 20, 20)
		chain(t, s, 20)
		decide(t, s, 40, 5)
		change(s, then)
		if n, err := Verify(t.Context(), s); err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// putBack writes records as they were.
func putBack(t *testing.T, s storage.Store, then map[string]string, keys ...string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		for _, key := range keys {
			if err := tx.Put(key, []byte(then[key])); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
