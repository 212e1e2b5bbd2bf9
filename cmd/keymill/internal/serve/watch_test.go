package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/issuer/api"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
)

// TestAFaultIsLoggedOnce, until it changes or goes.
func TestAFaultIsLoggedOnce(t *testing.T) {
	var w watch
	for i, step := range []struct {
		now, want map[string]string // setting → why
	}{
		{map[string]string{"a": "", "b": "x"}, map[string]string{"b": "x"}},
		{map[string]string{"a": "", "b": "x"}, map[string]string{}},
		{map[string]string{"a": "y", "b": "x"}, map[string]string{"a": "y"}},
		{map[string]string{"a": "z", "b": ""}, map[string]string{"a": "z", "b": ""}},
		{map[string]string{"a": "z", "b": ""}, map[string]string{}},
	} {
		var faults []loginFault
		for setting, why := range step.now {
			faults = append(faults, loginFault{setting: setting, why: why})
		}
		got := map[string]string{}
		for _, f := range w.changed(faults) {
			got[f.setting] = f.why
		}
		if !maps.Equal(got, step.want) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// TestTheNewestFaultsAreRemembered although an older request may read them first and compare them last.
func TestTheNewestFaultsAreRemembered(t *testing.T) {
	var w watch
	var newer sync.WaitGroup
	w.update(func() []loginFault {
		newer.Go(func() {
			w.update(func() []loginFault { return []loginFault{{setting: "a"}} }, func(loginFault) {})
		})
		for range 10_000 {
			runtime.Gosched()
		}
		return []loginFault{{setting: "a", why: "older"}}
	}, func(loginFault) {})
	newer.Wait()
	if got := w.logins["a"].why; got != "" {
		t.Errorf("the fault %q is remembered", got)
	}
}

// TestDamageIsReportedOnce, the newest and the oldest records each.
func TestDamageIsReportedOnce(t *testing.T) {
	file, err := openstore.Open(t.Context(), &config.Config{Data: t.TempDir()}, openstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := &server{rings: new(keystore.Rings), config: &config.Config{}, file: file, damage: damageReport{now: func() []*storage.DamageError { return nil }}}
	s.log, s.queue = newLog("text", &s.level, &strings.Builder{})
	defer s.queue.Close()
	for _, err := range []error{nil, errors.New("one"), errors.New("two")} {
		s.reportDamage(err)
	}
	if got := s.warnings(t.Context()); len(got) != 1 || got[0] != (api.Warning{Check: "audit", Detail: "one; two"}) {
		t.Errorf("%v", got)
	}
}

// TestOldDamageIsFoundWhileServing: the start reads the newest 1,000 records, and what is wrong with
// older ones is reported later. The check never ends a server.
//
// I19.
func TestOldDamageIsFoundWhileServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		for n := range 20 { // 1,200 records
			if err := store.Update(t.Context(), appendSixty(n == 0)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := audit.Chain(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			seq          int
			start, later string
		}{
			{0, "", ""}, // no damage; first, because damage stays
			{1200, "record 1200 is unreadable", ""},
			{201, "record 201 is unreadable", "record 201 is unreadable"}, // the oldest of the newest
			{7, "record 201 is unreadable", "record 7 is unreadable"},
		} {
			if tt.seq != 0 {
				key := fmt.Sprintf("audit/log/%020d", tt.seq)
				if err := store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte("{}")) }); err != nil {
					t.Fatal(err)
				}
			}
			s := &server{config: &config.Config{}, store: store}
			s.log, s.queue = newLog("text", &s.level, &strings.Builder{})
			if err := s.checkAudit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.watch.audit; !strings.Contains(got, tt.start) || (got == "") != (tt.start == "") {
				t.Errorf("record %d: at the start: %q", tt.seq, got)
			}
			atStart := len(s.watch.audit)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.verifyRest(ctx) }()
			time.Sleep(time.Hour)
			synctest.Wait()
			if got := s.watch.audit[atStart:]; !strings.Contains(got, tt.later) || (got == "") != (tt.later == "") {
				t.Errorf("record %d: later: %q", tt.seq, got)
			}
			select {
			case err := <-ended:
				t.Errorf("record %d: the check ended the server: %v", tt.seq, err)
			default:
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			s.queue.Close()
		}
	})
}

// appendSixty appends 60 records, of which the first one makes the store.
func appendSixty(creates bool) func(storage.Tx) error {
	return func(tx storage.Tx) error {
		for n := range 60 {
			action := "test"
			if creates && n == 0 {
				action = "store.create"
			}
			if err := audit.Append(tx, time.Now(), audit.Event{Action: action}); err != nil {
				return err
			}
		}
		return nil
	}
}
