package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
)

// damages of a log of 40 records.
var damages = map[string]func(tx storage.Tx) error{
	"a removed head":   func(tx storage.Tx) error { return tx.Delete(headKey) },
	"an empty head":    func(tx storage.Tx) error { return tx.Put(headKey, nil) },
	"half a head":      func(tx storage.Tx) error { return tx.Put(headKey, []byte(`{"seq":40,"ha`)) },
	"an older head":    func(tx storage.Tx) error { return tx.Put(headKey, []byte(`{"seq":17,"hash":"x"}`)) },
	"a head of 0":      func(tx storage.Tx) error { return tx.Put(headKey, []byte(`{"seq":0,"hash":""}`)) },
	"an enormous head": func(tx storage.Tx) error { return tx.Put(headKey, []byte(`{"seq":18446744073709551615,"hash":"x"}`)) },
	"a later head":     func(tx storage.Tx) error { return tx.Put(headKey, []byte(`{"seq":60,"hash":"x"}`)) },
	"an edited record": func(tx storage.Tx) error { return tx.Put(logKey(40), []byte(`{}`)) },
	"a removed record": func(tx storage.Tx) error { return tx.Delete(logKey(20)) },
	"no last record":   func(tx storage.Tx) error { return tx.Delete(logKey(40)) },
	"foreign keys": func(tx storage.Tx) error {
		return putAll(tx, logPrefix+"9", logPrefix+"99999999999999999999", logPrefix+"x")
	},
	"foreign, no head": func(tx storage.Tx) error {
		return errors.Join(tx.Delete(headKey), putAll(tx, logPrefix+"9", logPrefix+"x"))
	},
	"an enormous seq":   func(tx storage.Tx) error { return putAll(tx, logKey(1<<64-1)) },
	"no record, a head": func(tx storage.Tx) error { return deleteAll(tx, 1, 40) },
}

func putAll(tx storage.Tx, keys ...string) (err error) {
	for _, k := range keys {
		err = errors.Join(err, tx.Put(k, []byte("x")))
	}
	return err
}

func deleteAll(tx storage.Tx, first, last uint64) (err error) {
	for n := first; n <= last; n++ {
		err = errors.Join(err, tx.Delete(logKey(n)))
	}
	return err
}

// logged returns the records of the log, key by key.
func logged(t *testing.T, s storage.Store) map[string]string {
	t.Helper()
	var found map[string]string
	err := s.View(t.Context(), func(r storage.Reader) error {
		found = map[string]string{}
		for e, err := range r.Scan(logPrefix, logEnd) {
			if err != nil {
				return err
			}
			found[e.Key] = string(e.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestNoDamageEndsTheLog: Run goes on, new records are chained, and no old one is changed or
// overwritten.
//
// I19.
func TestNoDamageEndsTheLog(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openStore(t)
				decide(t, s, 0, 40)
				chain(t, s, 40)
				if err := s.Update(t.Context(), damage); err != nil {
					t.Fatal(err)
				}
				before := logged(t, s)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- Run(ctx, s, RunConfig{Log: slog.New(slog.DiscardHandler)}) }()
				for i := range 3 {
					decide(t, s, 40+i, 1)
					time.Sleep(time.Second)
					synctest.Wait()
				}
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Run ended: %v", err)
				}
				after := logged(t, s)
				for key, value := range before {
					if after[key] != value {
						t.Errorf("%s was changed", key)
					}
				}
				all := ""
				for key, value := range after {
					if _, old := before[key]; !old {
						all += value
					}
				}
				for i := range 3 {
					if strings.Count(all, fmt.Sprintf(`"target":"%d"`, 40+i)) != 1 {
						t.Errorf("record %d is not in the log once: %s", 40+i, all)
					}
				}
				if n := strings.Count(all, "audit.damaged"); n > 1 {
					t.Errorf("the damage was recorded %d times", n)
				}
			})
		})
	}
}

// TestADamagedHeadIsRecorded with what was left of it, and the chain is complete from there.
func TestADamagedHeadIsRecorded(t *testing.T) {
	for _, name := range []string{"a removed head", "an empty head", "half a head", "an older head", "a head of 0", "an enormous head"} {
		s := openStore(t)
		decide(t, s, 0, 40)
		chain(t, s, 40)
		if err := s.Update(t.Context(), damages[name]); err != nil {
			t.Fatal(err)
		}
		decide(t, s, 40, 40)
		chain(t, s, 40)
		verify(t, s, 81)
		records, err := tail(t, s, 40, 2)
		if err != nil || len(records) != 2 {
			t.Fatalf("%s: %v, %v", name, records, err)
		}
		d, next := records[0], records[1]
		if d.Action != "audit.damaged" || d.By != "system" || d.Detail["error"] == "" || next.Target != "40" || !d.Time.Equal(next.Time) {
			t.Errorf("%s: %+v, then %+v", name, d, next)
		}
		if name == "half a head" && d.Detail["head"] != `{"seq":40,"ha` {
			t.Errorf("the old head is recorded as %q", d.Detail["head"])
		}
	}
}

// TestTheEndAndTheRestAreVerified: together VerifyNewest and VerifyUntil find what Verify
// finds, and each only what is in its own part.
//
// I19.
func TestTheEndAndTheRestAreVerified(t *testing.T) {
	const n = 2*maxPage + 500 // the newest begin with record 1501
	at := func(seq uint64) func(storage.Tx) error {
		return func(tx storage.Tx) error { return tx.Put(logKey(seq), []byte("{}")) }
	}
	s := openStore(t)
	decide(t, s, 0, n)
	chain(t, s, n)
	for _, tt := range []struct {
		name         string
		damage       func(storage.Tx) error
		newest, rest string // in the error; "" if there is none
	}{
		{"nothing", func(storage.Tx) error { return nil }, "", ""},
		{"the first record", at(1), "", "record 1 is unreadable"},
		{"no first record", func(tx storage.Tx) error { return tx.Delete(logKey(1)) }, "record 1 is missing from the beginning; the first one that is left is number 2", ""},
		{"an old record", at(700), "", "record 700 is unreadable"},
		{"the last of the rest", at(1500), "", "record 1500 is unreadable"},
		{"the oldest of the newest", at(1501), "record 1501 is unreadable", "record 1501 is unreadable"},
		{"a new record", at(2000), "record 2000 is unreadable", ""},
		{"the last record", at(n), "record 2500 is unreadable", ""},
		{"no last record", func(tx storage.Tx) error { return tx.Delete(logKey(n)) }, "record 2500 is missing", ""},
		{"no record 1501", func(tx storage.Tx) error { return tx.Delete(logKey(1501)) }, "record 1501 is missing", "record 1501 is missing"},
		{"no head", func(tx storage.Tx) error { return tx.Delete(headKey) }, "there is record", ""},
		{"a broken head", func(tx storage.Tx) error { return tx.Put(headKey, []byte("{")) }, "head is unreadable", ""},
	} {
		copied := storage.DryRun(s)
		if err := copied.Update(t.Context(), tt.damage); err != nil {
			t.Fatal(err)
		}
		oldest, err := VerifyNewest(t.Context(), copied)
		if oldest != 1501 || !says(err, tt.newest) {
			t.Errorf("%s: VerifyNewest returned %d, %v", tt.name, oldest, err)
		}
		if err := VerifyUntil(t.Context(), copied, oldest-1); !says(err, tt.rest) {
			t.Errorf("%s: VerifyUntil returned %v", tt.name, err)
		}
	}
	for _, short := range []int{1, maxPage} {
		s := openStore(t)
		decide(t, s, 0, short)
		chain(t, s, short)
		if oldest, err := VerifyNewest(t.Context(), s); oldest != 1 || err != nil {
			t.Errorf("%d records: VerifyNewest returned %d, %v", short, oldest, err)
		}
	}
}

func says(err error, words string) bool {
	if words == "" {
		return err == nil
	}
	return errors.Is(err, ErrDamaged) && strings.Contains(err.Error(), words)
}
