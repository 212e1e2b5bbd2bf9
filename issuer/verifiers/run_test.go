package verifiers

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
)

// run runs the Registry until the function that it returns is called.
func (w *world) run() (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	time.Sleep(time.Second) // so that a sleep of minutes ends behind a tick
	return func() error { cancel(); return <-ended }
}

func (w *world) stop(end func() error) {
	w.t.Helper()
	if err := end(); err != nil {
		w.t.Fatal(err)
	}
}

// TestAVisitIsWrittenWhenItTellsSomething: a new set within a minute, an old one once in a quarter of the time in
// which a rotation waits, and the last visit at the end.
func TestAVisitIsWrittenWhenItTellsSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.add("orders-api")
		old := w.without(w.spare())
		end := w.run()
		writes := func(what string, want int, fetches int, every time.Duration, set *jwks.Set) {
			t.Helper()
			before := w.store.count()
			for range fetches {
				w.servedTo("orders-api", set)
				time.Sleep(every)
			}
			if got := w.store.count() - before; got != want {
				t.Errorf("%s: %d writes, want %d", what, got, want)
			}
		}
		time.Sleep(time.Minute)
		writes("the first set", 1, 1, time.Minute, old)
		writes("no visit", 0, 0, 0, old)
		writes("an hour of the same set, every five seconds", 20, 720, 5*time.Second, old)
		writes("another set", 1, 12, 5*time.Second, w.set())
		for n := range 60 {
			set := []*jwks.Set{old, w.set()}[n%2]
			writes("one set and another, all the time", 1, 30, 2*time.Second, set)
		}
		writes("four hours, every ten minutes", 23, 24, 10*time.Minute, w.set())
		w.fetch("orders-api")
		last := time.Now()
		before := w.store.count()
		w.stop(end)
		if w.store.count() != before+1 {
			t.Error("the last visit was not written at the end")
		}
		want := w.verifier("orders-api")
		time.Sleep(20 * time.Minute)
		w.restart()
		if got := w.verifier("orders-api"); !got.Last.Equal(last.Truncate(time.Second)) || got.Usual != want.Usual || fmt.Sprint(got.Served) != fmt.Sprint(want.Served) {
			t.Errorf("after a restart: %+v, want %+v", got, want)
		}
		end = w.run()
		before = w.store.count()
		w.stop(end)
		if w.store.count() != before {
			t.Error("a restart without a visit wrote something")
		}
	})
}

// TestAStoredTimeIsHalfADayOldAtMost, also that of a verifier which is waited for two weeks.
func TestAStoredTimeIsHalfADayOldAtMost(t *testing.T) {
	stored := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	p := pinned{kids: &kidList{"a"}, stored: stored}
	p.habit.add(maxInterval)
	for after, want := range map[time.Duration]bool{12*time.Hour - time.Second: false, 12 * time.Hour: true} {
		p.last = stored.Add(after)
		if got := p.due(p.last, writeEvery, 5*time.Minute); got != want {
			t.Errorf("a visit %s after the one that is stored: %t", after, got)
		}
	}
}

// TestAVerifierIsWrittenOnceAMinute, also if its key set is cached for seconds only.
func TestAVerifierIsWrittenOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := testKeys
		keys.MaxAge = 4 * time.Second
		w := newWorldOf(t, keys)
		w.add("a")
		sets := []*jwks.Set{w.set(), w.without(w.spare())}
		end := w.run()
		before := w.store.count()
		for n := range 600 {
			w.servedTo("a", sets[n%2])
			time.Sleep(time.Second)
		}
		if got := w.store.count() - before; got < 9 || got > 10 {
			t.Errorf("%d writes in ten minutes", got)
		}
		w.stop(end)
	})
}

// TestAVisitDuringAWriteIsWrittenNext: the write did not have it.
func TestAVisitDuringAWriteIsWrittenNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.add("a")
		end := w.run()
		w.servedTo("a", w.without(w.spare()))
		w.store.during(func() { w.fetch("a") })
		time.Sleep(time.Minute)
		w.store.during(nil)
		if strings.Contains(w.record(servedKey("a")), w.spare()) {
			t.Fatal("the write had the visit")
		}
		time.Sleep(time.Minute)
		if !strings.Contains(w.record(servedKey("a")), w.spare()) {
			t.Error("the visit was not written")
		}
		w.stop(end)
	})
}

// TestARestartBetweenTwoVisitsIsNoVisit: the interval goes on.
func TestARestartBetweenTwoVisitsIsNoVisit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.add("daily")
		for range 5 {
			end := w.run()
			time.Sleep(12*time.Hour - time.Second)
			w.fetch("daily")
			time.Sleep(11 * time.Hour)
			w.stop(end)
			time.Sleep(time.Hour)
			w.restart()
		}
		if v := w.verifier("daily"); v.Usual != "24h0m0s" {
			t.Errorf("the usual interval is %s", v.Usual)
		}
	})
}

// TestARemovalIsNotUndoneByAVisit that was not written yet, and nothing of it sticks to a new verifier of that name.
func TestARemovalIsNotUndoneByAVisit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		credential := w.add("a").Credential
		end := w.run()
		w.fetch("a")
		time.Sleep(2 * time.Minute)
		if w.record(servedKey("a")) == "" {
			t.Fatal("a visit was not written")
		}
		w.servedTo("a", w.without(w.spare()))
		if err := w.Remove(t.Context(), "a", "uid:7"); err != nil {
			t.Fatal(err)
		}
		w.servedTo("a", w.set()) // served before the removal
		time.Sleep(2 * time.Minute)
		if w.record(servedKey("a"))+w.record(nameKey("a")) != "" || w.identify(credential) != "" {
			t.Error("the removal was undone")
		}
		w.put(servedKey("a"), `{"last":"2026-01-01T00:00:00Z","kids":["x"],"intervals":[]}`) // as if the deletion had been lost
		w.add("a")
		time.Sleep(2 * time.Minute)
		if v := w.verifier("a"); v.Last != nil || w.record(servedKey("a")) != "" {
			t.Errorf("an old visit sticks to %+v", v)
		}
		w.stop(end)
		w.restart()
		if v := w.verifier("a"); v.Last != nil || len(w.damaged) > 0 {
			t.Errorf("an old visit sticks to %+v; %v", v, w.damaged)
		}
	})
}

// TestChangesAndWritesAtTheSameTime leave no record of a verifier that is not there.
func TestChangesAndWritesAtTheSameTime(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		for ctx := context.Background(); ; {
			select {
			case <-done:
				return
			default:
			}
			if err := w.write(ctx, (*pinned).unsaved); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var changes sync.WaitGroup
	for n := range 4 {
		name := fmt.Sprint("v", n)
		changes.Go(func() {
			for range 40 {
				v, err := w.Add(context.Background(), api.NewVerifier{Name: name}, "uid:0")
				if err != nil || v.Last != nil {
					t.Error(v, err)
					return
				}
				if !w.ServedPinned(v.Credential, w.set()) {
					t.Error("a new verifier has no credential")
				}
				w.List("", 10)
				w.CheckServed(w.keys.Published()[0].KID)
				if err := w.Remove(context.Background(), name, "uid:0"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	changes.Wait()
	close(done)
	all.Wait()
	for n := range 4 {
		if w.record(servedKey(fmt.Sprint("v", n))) != "" {
			t.Errorf("the record of v%d is left", n)
		}
	}
}

// largeSet has keys whose kids fill a record.
func largeSet(first int) *jwks.Set {
	var keys []jwks.Key
	for n := range 190 {
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			panic(err)
		}
		keys = append(keys, jwks.Key{KID: fmt.Sprintf("%0250d", first+n), Alg: "EdDSA", Public: public})
	}
	return must(jwks.NewSet(keys...))
}

// TestManyVerifiersOfALargeSetAreWritten, although an Update can touch 64 records and 512 KiB.
func TestManyVerifiersOfALargeSetAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for n := range MaxPinned {
			w.add(fmt.Sprintf("v%03d", n))
		}
		end := w.run()
		for _, set := range []*jwks.Set{w.set(), largeSet(0), largeSet(1), w.set()} {
			for n := range MaxPinned {
				w.servedTo(fmt.Sprintf("v%03d", n), set)
			}
			time.Sleep(61 * time.Second)
			for n := range MaxPinned {
				value := w.record(servedKey(fmt.Sprintf("v%03d", n)))
				if !strings.Contains(value, set.Keys()[0].KID) {
					t.Fatalf("v%03d: the record is %.100s", n, value)
				}
			}
		}
		w.stop(end)
	})
}

// TestAStoreThatFailsDelaysWritesOnly.
func TestAStoreThatFailsDelaysWritesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		w := newWorld(t)
		w.log = slog.NewTextHandler(&log, nil)
		w.open()
		w.add("a")
		end := w.run()
		w.store.fail(errInjected)
		for range 30 {
			w.fetch("a")
			time.Sleep(time.Minute)
		}
		for _, outage := range []error{storage.ErrUnavailable, storage.ErrUnknownOutcome} { // of one call
			w.store.fail(outage)
			time.Sleep(time.Minute)
		}
		if v := w.verifier("a"); v.Last == nil || w.record(servedKey("a")) != "" {
			t.Errorf("while the store fails: %+v", v)
		}
		if n := strings.Count(log.String(), "cannot be written"); n != 3 { // one of each error
			t.Errorf("%d lines in\n%s", n, &log)
		}
		w.store.fail(nil)
		time.Sleep(time.Minute)
		if w.record(servedKey("a")) == "" || !strings.Contains(log.String(), "is written again") {
			t.Errorf("nothing was written afterwards; the log is\n%s", &log)
		}
		w.stop(end)
		for _, broken := range []error{storage.ErrUnknownOutcome, storage.ErrBroken, storage.ErrClosed} {
			end := w.run()
			w.store.fail(broken)
			if !errors.Is(broken, storage.ErrClosed) {
				w.store.end(broken)
			}
			w.servedTo("a", w.without(w.spare()))
			time.Sleep(2 * time.Minute)
			w.fetch("a")
			if err := end(); !errors.Is(err, broken) {
				t.Errorf("Run returned %v", err)
			}
			w.store.fail(nil)
			w.store.end(nil)
		}
	})
}

// TestTheCheckRunsInTheTransactionOfARotation, which holds the locks of keystore, while visits are noted and written.
func TestTheCheckRunsInTheTransactionOfARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		keysEnded := make(chan error, 1)
		go func() { keysEnded <- w.keys.Run(ctx) }()
		w.add("a")
		w.servedTo("a", w.without(w.spare()))
		end := w.run()
		time.Sleep(time.Hour) // the reserve is made, and the spare is known by all caches
		w.servedTo("a", w.without(w.spare()))
		rotate := func() error {
			_, err := w.keys.Rotate(t.Context(), keystore.RotateRequest{Alg: "EdDSA", Check: w.CheckServed}, "uid:0")
			return err
		}
		refused(t, rotate(), "not_served")
		w.fetch("a")
		if err := rotate(); err != nil {
			t.Error(err)
		}
		w.stop(end)
		cancel()
		<-keysEnded
	})
}
