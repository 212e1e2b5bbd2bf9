package numbers

import (
	"context"
	"errors"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// What package issuer promises of the memory of hashing.
const (
	hashBudget = 128 << 20 // bytes of all hashes at once
	oneHash    = 19 << 20  // bytes of a hash of ours, see hashed
)

// TestMemoryOfHashingIsBounded: 500 logins at once, and the heap grows by no more than
// the budget and one hash per worker, also where so much else is alive that the collector
// would not come by itself.
func TestMemoryOfHashingIsBounded(t *testing.T) {
	for _, tt := range []struct {
		workers int64
		rest    int // MiB
	}{{1, 0}, {3, 0}, {6, 0}, {1, 500}} {
		r := withProcessors(int(tt.workers)+1, func() *rooms { return openRooms(t, newPlace(t), nil) })
		r.enrol(t)
		r.login(t, "no such user")        // measures what one hash takes
		rest := make([]byte, tt.rest<<20) // never touched: it counts and costs nothing
		runtime.GC()
		before := heapBytes()
		top, refusals := hashingStorm(t, r)
		runtime.KeepAlive(rest)
		peak, bound := top-before, hashBudget+tt.workers*oneHash
		t.Logf("counted: %d hashes at once, beside %d MiB: the heap grows by at most %d MiB of %d, %d logins were told to wait",
			tt.workers, tt.rest, peak>>20, bound>>20, refusals)
		if peak > bound || peak < oneHash || refusals == 0 {
			t.Errorf("%+v: peak %d MiB, bound %d MiB, %d refused", tt, peak>>20, bound>>20, refusals)
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// withProcessors runs open with so many processors: an issuer keeps the number that it met.
func withProcessors(n int, open func() *rooms) *rooms {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
	return open()
}

// hashingStorm begins 500 logins, ends them after the 20th hash (the peak comes with the
// first ten) and returns the most that the heap held in the meantime.
func hashingStorm(t *testing.T, r *rooms) (peak, refusals int64) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var hashes, busy atomic.Int64
	for range 500 {
		all.Go(func() {
			_, err := r.Login(ctx, loginOf("no such user"))
			if full := (*issuer.BusyError)(nil); errors.As(err, &full) {
				busy.Add(1)
			} else if refused := (*refusal.Refusal)(nil); errors.As(err, &refused) && hashes.Add(1) == 20 {
				cancel()
			}
		})
	}
	for ctx.Err() == nil {
		peak = max(peak, heapBytes())
		time.Sleep(time.Millisecond)
	}
	all.Wait()
	return peak, busy.Load()
}

func heapBytes() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}} // garbage included
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

func loginOf(name string) issuer.LoginRequest {
	return issuer.LoginRequest{Client: web, Endpoint: issuer.LoginBrowser, Name: name, Password: "wrong", From: here()}
}

// login makes one attempt that fails and returns how long it took.
func (r *rooms) login(t *testing.T, name string) time.Duration {
	begun := time.Now()
	_, err := r.Login(t.Context(), loginOf(name))
	took := time.Since(begun)
	if refused := (*refusal.Refusal)(nil); !errors.As(err, &refused) || refused.Code != "invalid_credentials" {
		t.Errorf("%s: %v", name, err)
	}
	return took
}

// stored maps users to their hashes, of other schemes and costs than ours. The password of
// none of them is "wrong".
var stored = map[string]refusal.Secret{
	"argon2id": hashed,
	"slow":     "$argon2id$v=19$m=32768,t=2,p=1$cmq/xsYSIGyPxhgAnCvz6w$g2HU8W/oi8v6PY+EVjp8LnXiTQc6t3Pbn08POHSmaOM",
	"fast":     "pbkdf2_sha256$1000$seasalt$66D58GdSNziOCLUou6tWdn1bGVonTm+Mq1bk1UmsLPI=",
	"PBKDF2":   "pbkdf2_sha256$260000$qHQro0ON1fDe3dPbwqCuFJ$Xrk4HtgZ0f3rVFVmMJDl7wxjgu9mgKnaaYeaTKbevwM=",
	"bcrypt":   "bcrypt_sha256$$2b$12$b5nCD0ShgIUw8FpM6CEINeLG../e8iUGA8ios0fooc3KoU8K4DE2C",
	"lanes":    "argon2$argon2id$v=19$m=102400,t=2,p=8$N1M1TGEwTWphZ3dveDhOYWtYckFNdA$xm8OGf5XxvTOK3e7WYctKQ",
}

func (r *rooms) addStored(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := r.ImportUser(t.Context(), api.ImportedUser{Name: name, Hash: stored[name]}, "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
}

// maxAnswerRatio: between two failed logins of different kinds in the same round.
const maxAnswerRatio = 1.25

// TestEveryFailedLoginTakesTheSameTime: whether the password is wrong, there is no such
// user, or the user's hash is of a scheme that is faster or slower than ours; and also
// while other goroutines want every processor.
//
// R98.
func TestEveryFailedLoginTakesTheSameTime(t *testing.T) {
	const warmUp, rounds = 2, 7
	for name, spinners := range map[string]int{"alone": 0, "beside others": runtime.GOMAXPROCS(0)} {
		t.Run(name, func(t *testing.T) {
			r := openRooms(t, newPlace(t), nil)
			r.enrol(t)
			kinds := []string{"argon2id", "slow", "fast"}
			r.addStored(t, kinds...)
			stop := spin(spinners)
			defer stop()
			ratios := map[string][]float64{}
			var unknown []time.Duration
			for n := range warmUp + rounds {
				none := r.login(t, "no such user")
				for _, kind := range kinds {
					if took := r.login(t, kind); n >= warmUp {
						ratios[kind] = append(ratios[kind], float64(took)/float64(none))
					}
				}
				unknown = append(unknown, none)
			}
			for _, kind := range kinds {
				middle := median(ratios[kind])
				t.Logf("counted: a failure of a user with %s takes %.2f times as long as one of no user, which takes %v", kind, middle, median(unknown))
				if middle > maxAnswerRatio || middle < 1/maxAnswerRatio {
					t.Errorf("%s: %.2f times as long as no user, allowed is a factor of %v", kind, middle, maxAnswerRatio)
				}
			}
		})
	}
}

// spin keeps n goroutines busy until stop is called.
func spin(n int) (stop func()) {
	var end atomic.Bool
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for !end.Load() {
			}
		})
	}
	return func() { end.Store(true); all.Wait() }
}

// tolerableLateness of a goroutine. One that finds every processor taken is late by up to
// 10 ms, after which Go takes a processor away, on any machine.
const tolerableLateness = 4 * time.Millisecond

// TestHashingStarvesNobody: a goroutine that wants to run every millisecond does, while
// the queue is full: it is hardly later than beside as many goroutines as leave one processor.
func TestHashingStarvesNobody(t *testing.T) {
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("one processor is always shared")
	}
	r := openRooms(t, newPlace(t), nil)
	r.enrol(t)
	kinds := []string{"argon2id", "PBKDF2", "bcrypt", "lanes"}
	r.addStored(t, kinds...)
	late, free := map[string][]time.Duration{}, []time.Duration(nil)
	for range 3 { // in turns, since the rest of the machine makes all of them late
		for _, kind := range kinds {
			stop := spin(runtime.GOMAXPROCS(0) - 1)
			free = append(free, lateness(50)...)
			stop()
			stop = r.logInAgainAndAgain(t, kind, 50)
			late[kind] = append(late[kind], lateness(50)...)
			stop()
		}
	}
	allowed := max(tolerableLateness, 3*median(free))
	for _, kind := range kinds {
		t.Logf("counted: beside hashes of %s a goroutine is late by %v, beside a free processor by %v", kind, median(late[kind]), median(free))
		if median(late[kind]) > allowed {
			t.Errorf("%s: late by %v, allowed are %v", kind, median(late[kind]), allowed)
		}
	}
}

// logInAgainAndAgain keeps so many failing logins of one user under way until stop is called.
func (r *rooms) logInAgainAndAgain(t *testing.T, name string, logins int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range logins {
		all.Go(func() {
			for ctx.Err() == nil {
				r.Login(ctx, loginOf(name))
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// lateness returns by how much a goroutine woke too late, n times.
func lateness(n int) []time.Duration {
	var late []time.Duration
	for range n {
		begun := time.Now()
		time.Sleep(time.Millisecond)
		late = append(late, time.Since(begun)-time.Millisecond)
	}
	return late
}

func median[T float64 | time.Duration](all []T) T {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}
