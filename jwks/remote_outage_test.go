package jwks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestDuringAnOutageTheSetIsUsedForMaxStaleOnly: with the server down, tokens are
// verified for max-age and MaxStale, and then refused. They are verified again within a minute
// after the server is back.
//
// I20.
func TestDuringAnOutageTheSetIsUsedForMaxStaleOnly(t *testing.T) {
	for name, hangs := range map[string]bool{"refused": false, "unanswered": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o origin
				o.publish(t, 5*time.Minute, edKey("ed"))
				r := follows(t, &o, RemoteConfig{})
				v, token := newVerifier(t, r, 0), tokenOf("ed")
				// verify verifies once a second, and returns how long it waited.
				verify := func() (time.Duration, error) {
					start := time.Now()
					_, err := v.Verify(t.Context(), token)
					waited := time.Since(start)
					pass(time.Second - waited%time.Second)
					return waited, err
				}
				if _, err := verify(); err != nil {
					t.Fatal(err)
				}
				bound := r.Status().UsableUntil
				o.become(nil, hangs)
				before, waits := o.count(), 0
				for time.Now().Before(bound) {
					waited, err := verify()
					if err != nil {
						t.Fatalf("%v before the bound: %v", time.Until(bound), err)
					}
					if waited > 0 {
						waits++
					}
				}
				t.Logf("counted: %d attempts while the set was used", o.count()-before)
				if n := o.count() - before; n < 50 || n > 80 {
					t.Errorf("%d attempts in 65 minutes", n)
				}
				if waits > 0 {
					t.Errorf("%d requests had to wait", waits)
				}
				before = o.count()
				for range 3600 {
					waited, err := verify()
					if !errors.Is(err, ErrUnavailable) || waited > 0 {
						t.Fatalf("past the bound, after %v: %v", waited, err)
					}
				}
				t.Logf("counted: %d attempts in an hour of refusing", o.count()-before)
				if n := o.count() - before; n > 720 {
					t.Errorf("%d attempts in an hour", n)
				}
				o.publish(t, 5*time.Minute, edKey("ed"))
				back := time.Now()
				for err := ErrUnavailable; err != nil; {
					if _, err = verify(); time.Since(back) > 17*time.Second { // a timeout, a cooldown and a second
						t.Fatal("the server is back, but there is no set")
					}
				}
			})
		})
	}
}

// TestAHangingServerDelaysNoRequestWhileThereIsASet: when the set becomes stale, a thousand requests
// must not wait for a timeout, whatever the result of earlier attempts is. A caller whose
// context has ended gets the set too.
func TestAHangingServerDelaysNoRequestWhileThereIsASet(t *testing.T) {
	for maxAge, most := range map[time.Duration]time.Duration{
		5 * time.Minute: 0, 5 * time.Second: 0, time.Second: 800 * time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			var o origin
			o.publish(t, maxAge, edKey("ed"))
			r := follows(t, &o, RemoteConfig{})
			wantSet(t, r, "ed")
			o.become(nil, true)
			pass(maxAge)
			var group sync.WaitGroup
			for i := range 1000 {
				group.Go(func() {
					ctx, start := t.Context(), time.Now()
					if i%2 == 0 {
						done, cancel := context.WithCancel(ctx)
						cancel()
						ctx = done
					}
					if set, err := r.Set(ctx); set == nil || err != nil || time.Since(start) > most {
						t.Errorf("max-age %v: %v, %v after %v", maxAge, set, err, time.Since(start))
					}
				})
			}
			group.Wait()
		})
	}
}

// TestMaxStaleIsTheBound for several values.
func TestMaxStaleIsTheBound(t *testing.T) {
	for maxStale, want := range map[time.Duration]time.Duration{
		-1: 0, 0: time.Hour, time.Second: time.Second, 24 * time.Hour: 24 * time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			var o origin
			o.publish(t, time.Minute, edKey("ed"))
			r := follows(t, &o, RemoteConfig{MaxStale: maxStale})
			wantSet(t, r, "ed")
			o.become(nil, false)
			pass(time.Minute + want - 1)
			wantSet(t, r, "ed")
			pass(1)
			wantUnavailable(t, r)
			if s := r.Status(); len(s.Keys) != 0 || s.Err == nil || s.UsableUntil.After(time.Now()) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestDuringAnOutageOnlyOneCallerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Hour, edKey("ed"))
		r := follows(t, &o, RemoteConfig{})
		v := newVerifier(t, r, 0)
		wantSet(t, r, "ed")
		o.become(nil, true)
		pass(5 * time.Second)
		v.Verify(t.Context(), tokenOf("x")) // notices that the server is gone
		pass(5 * time.Second)
		var waited atomic.Int64
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() {
				start := time.Now()
				if _, err := v.Verify(t.Context(), tokenOf(fmt.Sprint(i))); !errors.Is(err, ErrUnknownKey) {
					t.Error(err)
				}
				if time.Since(start) > 0 {
					waited.Add(1)
				}
			})
		}
		group.Wait()
		if waited.Load() != 1 || o.count() != 3 {
			t.Errorf("%d waited; %d fetches", waited.Load(), o.count())
		}
	})
}

// TestEveryFailureKeepsTheOldSet and is reported.
func TestEveryFailureKeepsTheOldSet(t *testing.T) {
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			w.Write([]byte(`{"keys":[]}`))
		})
	}
	body := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(s)) })
	}
	moved := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://id.example/other", http.StatusMovedPermanently)
	})
	for name, answer := range map[string]http.Handler{
		"refused": nil, "404": status(404), "410": status(410), "500": status(500), "503": status(503),
		"201": status(201), "204": status(204), "206": status(206), "moved": moved,
		"empty": body(""), "not JSON": body("<html>"), "no set": body("{}"), "cut short": body(`{"keys":[`),
		"too big": body(`{"keys":[]}` + strings.Repeat(" ", maxDocumentBytes)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o origin
				o.publish(t, time.Minute, edKey("ed"))
				heard := 0
				r := follows(t, &o, RemoteConfig{Fetched: func(err error) {
					if err != nil {
						heard++
					}
				}})
				wantSet(t, r, "ed")
				good := o.answer
				o.become(answer, false)
				pass(2 * time.Minute)
				wantSet(t, r, "ed")
				s := r.Status()
				if s.Err == nil || heard == 0 || len(s.Keys) != 1 || s.FreshUntil.After(time.Now()) {
					t.Fatalf("%d failures reported; %+v", heard, s)
				}
				if !strings.Contains(s.Err.Error(), "https://id.example/keys") {
					t.Errorf("the error does not name the address: %v", s.Err)
				}
				o.become(good, false)
				pass(70 * time.Second)
				if s := r.Status(); s.Err != nil || o.bodies != 1 && answer == nil {
					t.Errorf("it did not recover: %+v", s)
				}
			})
		})
	}
}

// slowed is true with the race detector, which makes everything ten times slower.
func slowed() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestMemoryStaysFlatWhateverArrives: a million invented kids leave nothing in memory, with the
// server up and with the server gone.
//
// I22.
func TestMemoryStaysFlatWhateverArrives(t *testing.T) {
	kids := 1_000_000
	if slowed() {
		kids /= 10
	}
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Hour, edKey("ed"))
		r := follows(t, &o, RemoteConfig{})
		v := newVerifier(t, r, 100)
		wantSet(t, r, "ed")
		parts := strings.SplitN(tokenOf("x"), ".", 2)
		inUse := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		start, before := time.Now(), inUse()
		for i := range kids {
			if i == kids/2 {
				o.become(nil, false)
			}
			if i%1000 == 0 {
				pass(time.Second)
			}
			token := encode(fmt.Sprintf(`{"alg":"EdDSA","kid":"%d","typ":"at+jwt"}`, i)) + "." + parts[1]
			if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrUnknownKey) {
				t.Fatal(err)
			}
		}
		after := inUse()
		t.Logf("counted: %d fetches in %v for %d kids; heap %d KiB before, %d KiB after",
			o.count(), time.Since(start), kids, before>>10, after>>10)
		if after > before+256<<10 {
			t.Errorf("the heap grew by %d KiB", (after-before)>>10)
		}
		if most := int(time.Since(start)/(5*time.Second)) + 1; o.count() > most {
			t.Errorf("%d fetches, the limit is %d", o.count(), most)
		}
	})
}
