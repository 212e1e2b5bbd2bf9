package jwks

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneHundredCallersAtTheStartShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("ed"))
		o.become(after(time.Second, o.answer), false)
		r := follows(t, &o, RemoteConfig{})
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { wantSet(t, r, "ed") })
		}
		group.Wait()
		if o.count() != 1 {
			t.Errorf("counted: %d fetches", o.count())
		}
	})
}

func TestACanceledCallerDoesNotCancelTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("ed"))
		o.become(after(3*time.Second, o.answer), false)
		r := follows(t, &o, RemoteConfig{})
		var patient sync.WaitGroup
		patient.Go(func() { wantSet(t, r, "ed") })
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Set(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnavailable) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		patient.Wait()
		if time.Since(start) != 3*time.Second || o.count() != 1 {
			t.Errorf("the other waited %v, %d fetches", time.Since(start), o.count())
		}

		// The same for a caller that looks for a newer set.
		pass(5 * time.Second)
		set, _ := r.Set(t.Context())
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.refresh(ctx, set); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("refresh: %v", err)
		}
	})
}

func TestAFailedFirstFetchIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		r := follows(t, &o, RemoteConfig{})
		wantUnavailable(t, r)
		start := time.Now()
		for range 100 {
			wantUnavailable(t, r)
		}
		if !time.Now().Equal(start) || o.count() != 1 {
			t.Errorf("waited %v, %d fetches", time.Since(start), o.count())
		}
		o.publish(t, time.Minute, edKey("ed"))
		pass(5*time.Second - 1)
		wantUnavailable(t, r)
		pass(time.Second) // the cooldown and its jitter
		wantSet(t, r, "ed")
		if o.count() != 2 {
			t.Errorf("%d fetches", o.count())
		}
	})
}

func TestASetIsRefreshedBeforeItsMaxAgeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, 80*time.Second, edKey("ed"))
		r := follows(t, &o, RemoteConfig{})
		wantSet(t, r, "ed")
		pass(50*time.Second - 1)
		if o.count() != 1 {
			t.Error("refreshed too early")
		}
		pass(10*time.Second + 1)
		if o.count() != 2 {
			t.Errorf("%d fetches after 3/4 of max-age", o.count())
		}
		start := time.Now()
		for range 24 * 60 {
			pass(time.Minute)
			wantSet(t, r, "ed")
		}
		rest := o.count() - 2
		t.Logf("counted: %d fetches in a day of max-age=80", rest)
		if most := int(time.Since(start) / (50 * time.Second)); rest > most || rest < most*4/5 || o.bodies != 1 {
			t.Errorf("%d fetches, %d bodies", rest, o.bodies)
		}
	})
}

func TestAnUnchangedSetIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("ed"))
		r := follows(t, &o, RemoteConfig{})
		wantSet(t, r, "ed")
		before := r.Status()
		pass(10 * time.Minute)
		status := r.Status()
		if o.bodies != 1 || o.header.Get("If-None-Match") != mustSet(t, edKey("ed")).ETag() {
			t.Errorf("%d bodies; asked with %v", o.bodies, o.header)
		}
		if !status.Fetched.After(before.Fetched) || !status.FreshUntil.After(before.FreshUntil) || status.Err != nil || status.Age > time.Minute {
			t.Errorf("a 304 does not renew the set: %+v", status)
		}
		o.publish(t, time.Minute, edKey("ed"), rsaKey("rsa"))
		pass(time.Minute)
		wantSet(t, r, "ed", "rsa")
		if o.bodies != 2 {
			t.Errorf("%d bodies", o.bodies)
		}
	})
}

func TestA304WithoutMaxAgeKeepsTheOldMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, 20*time.Second, edKey("ed"))
		r := follows(t, &o, RemoteConfig{})
		wantSet(t, r, "ed")
		o.become(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) }), false)
		pass(17 * time.Second)
		if s := r.Status(); s.Err != nil || s.Fetches != 2 || s.FreshUntil.Sub(s.Fetched) != 20*time.Second {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnUnrequested304IsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.become(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) }), false)
		wantUnavailable(t, follows(t, &o, RemoteConfig{}))
	})
}

func TestAgeShortensTheLifetimeOfASet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("ed"))
		h := o.answer
		o.become(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Age", "40")
			h.ServeHTTP(w, r)
		}), false)
		r := follows(t, &o, RemoteConfig{MaxStale: -1})
		wantSet(t, r, "ed")
		if s := r.Status(); s.Age != 40*time.Second || s.FreshUntil.Sub(s.Fetched) != 20*time.Second || !s.UsableUntil.Equal(s.FreshUntil) {
			t.Errorf("%+v", s)
		}
		pass(time.Second)
		o.become(nil, false)
		pass(18 * time.Second)
		wantSet(t, r, "ed")
		pass(time.Second)
		wantUnavailable(t, r)
	})
}

// TestANewKeyIsKnownBeforeItSignsAndARemovedOneIsGoneWithinMaxAge with and without a cache.
func TestANewKeyIsKnownBeforeItSignsAndARemovedOneIsGoneWithinMaxAge(t *testing.T) {
	for _, cache := range []int{0, 100} {
		synctest.Test(t, func(t *testing.T) {
			var o origin
			o.publish(t, 5*time.Minute, edKey("a"))
			v := newVerifier(t, follows(t, &o, RemoteConfig{}), cache)
			verify := func(kid string) error {
				_, err := v.Verify(t.Context(), tokenOf(kid))
				return err
			}
			if err := verify("a"); err != nil {
				t.Fatal(err)
			}
			o.publish(t, 5*time.Minute, edKey("a"), edKey("b"))
			pass(5 * time.Minute)
			fetches := o.count()
			if err := verify("b"); err != nil || o.count() != fetches {
				t.Errorf("cache %d: the new key: %v; it cost %d fetches", cache, err, o.count()-fetches)
			}
			if err := verify("a"); err != nil {
				t.Errorf("cache %d: the old key while it is published: %v", cache, err)
			}
			o.publish(t, 5*time.Minute, edKey("b"))
			pass(5 * time.Minute)
			if err := verify("a"); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("cache %d: the removed key: %v", cache, err)
			}
		})
	}
}

func TestAKeyThatSignsAtOnceIsFoundByItsFirstToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Hour, edKey("a"))
		v := newVerifier(t, follows(t, &o, RemoteConfig{}), 0)
		if _, err := v.Verify(t.Context(), tokenOf("a")); err != nil {
			t.Fatal(err)
		}
		o.publish(t, time.Hour, edKey("b"))
		if _, err := v.Verify(t.Context(), tokenOf("b")); !errors.Is(err, ErrUnknownKey) || o.count() != 1 {
			t.Errorf("within the cooldown: %v, %d fetches", err, o.count())
		}
		pass(5 * time.Second)
		if _, err := v.Verify(t.Context(), tokenOf("b")); err != nil {
			t.Error(err)
		}
	})
}

func TestTheShortestMaxAgeWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Second, edKey("ed"))
		o.become(after(100*time.Millisecond, o.answer), false)
		r := follows(t, &o, RemoteConfig{MaxStale: -1})
		wantSet(t, r, "ed")
		for range 100 {
			pass(77 * time.Millisecond)
			start := time.Now()
			wantSet(t, r, "ed")
			if time.Since(start) > 0 {
				t.Fatalf("waited %v", time.Since(start))
			}
			r.refresh(t.Context(), r.record.Load().set)
		}
		if most := int(10*time.Second/(500*time.Millisecond)) + 1; o.count() > most {
			t.Errorf("%d fetches", o.count())
		}
	})
}

func TestASlowServerWithoutMaxStaleStillServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Second, edKey("ed"))
		o.become(after(3*time.Second, o.answer), false) // stale when it arrives
		r := follows(t, &o, RemoteConfig{MaxStale: -1})
		for range 5 {
			wantSet(t, r, "ed")
			pass(time.Second)
		}
	})
}

func TestAfterCloseTheSetIsServedUntilItIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("ed"))
		r := follows(t, &o, RemoteConfig{})
		wantSet(t, r, "ed")
		r.Close()
		r.Close()
		pass(61*time.Minute - 1)
		wantSet(t, r, "ed")
		if set, err := r.refresh(t.Context(), r.record.Load().set); set == nil || err != nil {
			t.Errorf("refresh: %v, %v", set, err)
		}
		pass(1)
		wantUnavailable(t, r)
		if o.count() != 1 {
			t.Errorf("%d fetches", o.count())
		}
	})
}

func TestCloseEndsARunningFetchAndItsWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.become(nil, true)
		heard := 0
		r := follows(t, &o, RemoteConfig{Fetched: func(error) { heard++ }})
		var waiter sync.WaitGroup
		waiter.Go(func() { wantUnavailable(t, r) })
		pass(time.Second)
		start := time.Now()
		r.Close()
		waiter.Wait()
		wantUnavailable(t, r)
		if time.Since(start) > 0 || heard != 0 {
			t.Errorf("after %v; %d fetches reported", time.Since(start), heard)
		}
	})
}

// TestAClockSetForwardCostsOneFetch: by that clock the last set is too old, and the next
// one is not.
func TestAClockSetForwardCostsOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Hour, edKey("ed"))
		r := follows(t, &o, RemoteConfig{})
		wantSet(t, r, "ed")
		const years = 20 * 365 * 24 * time.Hour
		last := *r.record.Load() // a bubble has one clock, so the times of the record are moved instead
		last.sent, last.began, last.ended = last.sent.Add(-years), last.began.Add(-years), last.ended.Add(-years)
		r.record.Store(&last)
		for range 10 {
			wantSet(t, r, "ed")
		}
		if o.count() != 2 {
			t.Errorf("%d fetches", o.count())
		}
	})
}

func TestAHookThatHangsDelaysCallersBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("ed"))
		hang := make(chan struct{})
		r := follows(t, &o, RemoteConfig{Fetched: func(error) { <-hang }})
		wantSet(t, r, "ed")
		pass(2 * time.Minute)
		start := time.Now()
		wantSet(t, r, "ed") // stale, but usable
		if time.Since(start) != time.Second {
			t.Errorf("waited %v", time.Since(start))
		}
		close(hang)
	})
}

func TestANewerSetIsNotFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("a"))
		r := follows(t, &o, RemoteConfig{})
		old, err := r.Set(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.publish(t, time.Minute, edKey("b"))
		pass(55 * time.Second)
		fetches := o.count()
		set, err := r.refresh(t.Context(), old)
		if err != nil || set == old || o.count() != fetches {
			t.Errorf("%v; %d more fetches", err, o.count()-fetches)
		}
	})
}

// TestACallAndATimerAtTheSameTimeAreOneFetch: a request that stayed in wake would start a second
// fetch within the cooldown.
func TestACallAndATimerAtTheSameTimeAreOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("ed"))
		r := follows(t, &o, RemoteConfig{MaxStale: -1, Fetched: func(error) { time.Sleep(65 * time.Second) }})
		wantSet(t, r, "ed")
		for range 30 {
			before := o.count()
			pass(64 * time.Second)
			wantSet(t, r, "ed") // asks while the loop is late
			if o.count() != before+1 {
				t.Fatalf("%d fetches", o.count()-before)
			}
		}
	})
}
