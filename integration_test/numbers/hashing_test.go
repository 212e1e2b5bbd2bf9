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

// The bounds that issuer/password states for the memory of hashing.
const (
	hashBudget = 128 << 20 // bytes of all hashes together
	oneHash    = 19 << 20  // bytes of one hash of the default cost, see hashed
)

// TestMemoryOfHashingIsBounded: during 500 logins at once the heap grows by no more than the budget and
// one hash per worker. That also holds beside 500 MiB of other memory, with which the garbage
// collector would run too rarely by itself.
func TestMemoryOfHashingIsBounded(t *testing.T) {
	for _, tt := range []struct {
		workers int64
		rest    int // MiB
	}{{1, 0}, {3, 0}, {6, 0}, {1, 500}} {
		r := withProcessors(int(tt.workers)+1, func() *openedIssuer { return openIssuer(t, newPlace(t), nil) })
		r.register(t)
		r.login(t, "unknown user")        // the issuer measures the time of one hash
		rest := make([]byte, tt.rest<<20) // never written, so it counts for the collector and uses no RAM
		runtime.GC()
		before := heapBytes()
		top, refusals := hashingStorm(t, r)
		runtime.KeepAlive(rest)
		peak, bound := top-before, hashBudget+tt.workers*oneHash
		t.Logf("counted: %d hashes at once, beside %d MiB: the heap grows by at most %d MiB of %d, %d logins refused because too many wait",
			tt.workers, tt.rest, peak>>20, bound>>20, refusals)
		if peak > bound || peak < oneHash || refusals == 0 {
			t.Errorf("%+v: the heap grew by %d MiB, bound %d MiB, %d logins refused", tt, peak>>20, bound>>20, refusals)
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// withProcessors runs open with that many processors. An issuer keeps the number that it finds when it
// is opened.
func withProcessors(n int, open func() *openedIssuer) *openedIssuer {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
	return open()
}

// hashingStorm starts 500 logins and cancels them after the 20th hash, because the first ten reach the
// peak. It returns the largest size of the heap in that time, and the number of refused logins.
func hashingStorm(t *testing.T, r *openedIssuer) (peak, refusals int64) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var hashes, busy atomic.Int64
	for range 500 {
		all.Go(func() {
			_, err := r.Login(ctx, loginOf("unknown user"))
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
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}} // with garbage
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

func loginOf(name string) issuer.LoginRequest {
	return issuer.LoginRequest{Client: web, Endpoint: issuer.LoginBrowser, Name: name, Password: "wrong", From: here()}
}

// login makes one attempt that must fail and returns how long it took.
func (r *openedIssuer) login(t *testing.T, name string) time.Duration {
	return r.attempt(t, loginOf(name))
}

// loginInTwoForms is login with a password that has white space at its end.
func (r *openedIssuer) loginInTwoForms(t *testing.T, name string) time.Duration {
	req := loginOf(name)
	req.Password, req.Trimmed = req.Password+" ", req.Password
	return r.attempt(t, req)
}

func (r *openedIssuer) attempt(t *testing.T, req issuer.LoginRequest) time.Duration {
	begun := time.Now()
	_, err := r.Login(t.Context(), req)
	took := time.Since(begun)
	if refused := (*refusal.Refusal)(nil); !errors.As(err, &refused) || refused.Code != "invalid_credentials" {
		t.Errorf("%s: %v", req.Name, err)
	}
	return took
}

// stored maps users to their hashes. Most have other schemes or costs than the default. No user has the
// password "wrong".
var stored = map[string]refusal.Secret{
	"argon2id": hashed,
	"slow":     "$argon2id$v=19$m=32768,t=2,p=1$cmq/xsYSIGyPxhgAnCvz6w$g2HU8W/oi8v6PY+EVjp8LnXiTQc6t3Pbn08POHSmaOM",
	"fast":     "pbkdf2_sha256$1000$seasalt$66D58GdSNziOCLUou6tWdn1bGVonTm+Mq1bk1UmsLPI=",
	"PBKDF2":   "pbkdf2_sha256$260000$qHQro0ON1fDe3dPbwqCuFJ$Xrk4HtgZ0f3rVFVmMJDl7wxjgu9mgKnaaYeaTKbevwM=",
	"bcrypt":   "bcrypt_sha256$$2b$12$b5nCD0ShgIUw8FpM6CEINeLG../e8iUGA8ios0fooc3KoU8K4DE2C",
	"lanes":    "argon2$argon2id$v=19$m=102400,t=2,p=8$N1M1TGEwTWphZ3dveDhOYWtYckFNdA$xm8OGf5XxvTOK3e7WYctKQ",
}

func (r *openedIssuer) addStored(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := r.ImportUser(t.Context(), api.ImportedUser{Name: name, Hash: stored[name]}, "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
}

// maxAnswerRatio bounds the ratio of the times of two failed logins in the same round.
const maxAnswerRatio = 1.25

// TestEveryFailedLoginTakesTheSameTime: a wrong password, an unknown user, a user who is disabled or has
// no password, and a user whose hash has a faster or slower scheme than the default all take the same
// time. That holds for one form of the password and for two, which take longer, and while other
// goroutines use every processor.
//
// R98.
func TestEveryFailedLoginTakesTheSameTime(t *testing.T) {
	for name, spinners := range map[string]int{"alone": 0, "beside others": runtime.GOMAXPROCS(0)} {
		t.Run(name, func(t *testing.T) {
			r := openIssuer(t, newPlace(t), nil)
			r.register(t)
			kinds := []string{"argon2id", "slow", "fast"}
			r.addStored(t, kinds...)
			if spinners == 0 {
				r.addWithoutLogin(t)
				kinds = append(kinds, "disabled", "passwordless")
			}
			stop := spin(spinners)
			defer stop()
			compareWithUnknown(t, "one form", kinds, r.login)
			compareWithUnknown(t, "two forms", kinds, r.loginInTwoForms)
		})
	}
}

// compareWithUnknown compares failed logins of some users with those of an unknown user.
func compareWithUnknown(t *testing.T, form string, kinds []string, login func(*testing.T, string) time.Duration) {
	const warmUp, rounds = 1, 5
	ratios := map[string][]float64{}
	var unknown []time.Duration
	for n := range warmUp + rounds {
		none := login(t, "unknown user")
		for _, kind := range kinds {
			if took := login(t, kind); n >= warmUp {
				ratios[kind] = append(ratios[kind], float64(took)/float64(none))
			}
		}
		unknown = append(unknown, none)
	}
	for _, kind := range kinds {
		middle := median(ratios[kind])
		t.Logf("counted: a failed login of the user %s with %s takes %.2f times as long as that of an unknown user, which takes %v", kind, form, middle, median(unknown))
		if middle > maxAnswerRatio || middle < 1/maxAnswerRatio {
			t.Errorf("%s, %s: %.2f times as long as an unknown user, at most a factor of %v is allowed", kind, form, middle, maxAnswerRatio)
		}
	}
}

// addWithoutLogin adds a user who is disabled and one who has no password.
func (r *openedIssuer) addWithoutLogin(t *testing.T) {
	t.Helper()
	for _, u := range []api.ImportedUser{{Name: "disabled", Hash: stored["slow"], Disabled: true}, {Name: "passwordless"}} {
		if _, err := r.ImportUser(t.Context(), u, "uid:0"); err != nil {
			t.Fatal(err)
		}
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

// tolerableLateness bounds how late a goroutine wakes up. If every processor is busy, it is up to 10 ms
// late on any machine, because Go preempts a goroutine after that time.
const tolerableLateness = 4 * time.Millisecond

// TestHashingLeavesAProcessorToOthers: while the queue of hashes is full, a goroutine that runs every
// millisecond is hardly later than beside goroutines that use all processors but one.
func TestHashingLeavesAProcessorToOthers(t *testing.T) {
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("with one processor, hashing and others always share it")
	}
	r := openIssuer(t, newPlace(t), nil)
	r.register(t)
	kinds := []string{"argon2id", "PBKDF2", "bcrypt", "lanes"}
	r.addStored(t, kinds...)
	late, free := map[string][]time.Duration{}, []time.Duration(nil)
	for range 3 { // in turns, because other work on the machine delays all of them
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
			t.Errorf("%s: a goroutine is late by %v, at most %v is allowed", kind, median(late[kind]), allowed)
		}
	}
}

// logInAgainAndAgain runs that many failing logins of one user in parallel until stop is called.
func (r *openedIssuer) logInAgainAndAgain(t *testing.T, name string, logins int) (stop func()) {
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

// lateness sleeps n times and returns by how much each sleep was too long.
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
