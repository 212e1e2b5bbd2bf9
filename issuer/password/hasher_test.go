package password

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/refusal"
)

func TestHashesTakeTheirShareOfMemoryAndProcessors(t *testing.T) {
	for _, tt := range []struct {
		workers int
		budget  int64
		class   string
		want    int // at once
	}{
		{1, hashBudget, "argon2id-19456-2-1", 1},
		{3, hashBudget, "argon2id-19456-2-1", 3},
		{6, hashBudget, "argon2id-19456-2-1", 6},
		{100, hashBudget, "argon2id-19456-2-1", 6}, // 114 of 128 MiB
		{100, 2 * hashBudget, "argon2id-19456-2-1", 13},
		{1, hashBudget, "pbkdf2_sha256-600000", 1},
		{7, hashBudget, "pbkdf2_sha256-600000", 7},
		{7, hashBudget, "bcrypt_sha256-12", 7},
		{7, hashBudget, "bcrypt-12", 7},
		{7, hashBudget, "pbkdf2_sha1-600000", 7},
		{7, hashBudget, "scrypt-1024-8-16", 7},  // its lanes are computed one after another
		{7, hashBudget, "scrypt-16384-8-1", 7},  // 16 MiB, less than a share
		{7, hashBudget, "scrypt-32768-8-1", 3},  // a little over 32 MiB
		{7, hashBudget, "scrypt-65536-8-2", 1},  // a little over 64 MiB
		{7, hashBudget, "scrypt-131072-8-1", 1}, // the budget
		{7, hashBudget, "argon2id-65536-3-1", 2},
		{7, hashBudget, "argon2id-131072-1-1", 1},
		{8, hashBudget, "argon2id-1024-1-4", 2}, // four lanes are four processors
		{7, hashBudget, "argon2id-102400-2-8", 1},
		{7, hashBudget, "argon2id-1024-1-16", 1}, // more than there are: it runs alone
		{4, 1 << 20, "argon2id-19456-2-1", 1},    // more than the budget: likewise
	} {
		h := newHasher(tt.workers, tt.budget)
		r, err := parseClass(tt.class)
		if err != nil {
			t.Fatal(err)
		}
		untilDone(t, func(ctx context.Context) {
			var running atomic.Int64
			for range tt.want + 3 {
				go func() {
					if _, err := h.acquire(ctx, r); err == nil {
						running.Add(1)
					}
				}()
			}
			synctest.Wait()
			if int(running.Load()) != tt.want {
				t.Errorf("%d workers, %d MiB: %d of %s at once, want %d", tt.workers, tt.budget>>20, running.Load(), tt.class, tt.want)
			}
		})
	}
}

// untilDone runs f with a context that ends with it.
func untilDone(t *testing.T, f func(ctx context.Context)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f(ctx)
	})
}

func TestLoginsWaitInTheOrderOfTheirArrival(t *testing.T) {
	h := newHasher(1, hashBudget)
	dear, small := params{scheme: schemeArgon2id, memory: 102400, rounds: 2, lanes: 8}, params{scheme: schemePBKDF2, rounds: 1}
	untilDone(t, func(ctx context.Context) {
		release, err := h.acquire(ctx, policy)
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		for n, r := range []params{dear, small, policy, small, dear} {
			go func() {
				done, err := h.acquire(ctx, r)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, n) // one worker: one at a time
				done()
			}()
			synctest.Wait()
		}
		release()
		synctest.Wait()
		if !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
			t.Errorf("order %v", order)
		}
	})
}

func TestAFullQueueIsBusy(t *testing.T) {
	h := newHasher(1, hashBudget)
	h.durations[policy.class()] = 20 * time.Millisecond
	untilDone(t, func(ctx context.Context) {
		release, _ := h.acquire(ctx, policy)
		waiting, giveUp := context.WithCancel(ctx)
		var gaveUp atomic.Int64
		for range maxHashWaiting {
			go func() {
				if _, _, _, err := h.Verify(waiting, "", "", "x"); errors.Is(err, context.Canceled) {
					gaveUp.Add(1)
				}
			}()
		}
		synctest.Wait()
		_, _, began, err := h.Verify(ctx, "", "", "x")
		var busy *BusyError
		if !errors.As(err, &busy) || busy.RetryAfter != 5*time.Second || !began.IsZero() {
			t.Errorf("began %v, %v; RetryAfter must be the queue's time in whole seconds", began, err)
		}
		if _, err := h.Hash(ctx, "x"); !errors.As(err, &busy) {
			t.Errorf("hash: %v", err)
		}

		giveUp()
		synctest.Wait()
		if gaveUp.Load() != maxHashWaiting || h.turns.waiting() != 0 {
			t.Errorf("%d gave up, %d still wait", gaveUp.Load(), h.turns.waiting())
		}
		release()
		if _, err := h.Hash(ctx, "x"); err != nil {
			t.Errorf("after the queue has emptied: %v", err)
		}
	})
}

// R98.
func TestFailuresAreAnsweredAfterTheSlowestClass(t *testing.T) {
	h := newHasher(1, hashBudget)
	for class, took := range map[string]time.Duration{
		"argon2id-19456-2-1": 20 * time.Millisecond, "pbkdf2_sha256-600000": 200 * time.Millisecond, "bcrypt_sha256-4": time.Millisecond,
	} {
		h.durations[class] = took
	}
	began := time.Now()
	if got := h.FailAt(began).Sub(began); got != 240*time.Millisecond {
		t.Errorf("answered after %v", got)
	}
	if err := h.AddClass(t.Context(), "pbkdf2_sha256-600000"); err != nil || h.durations["pbkdf2_sha256-600000"] != 200*time.Millisecond {
		t.Errorf("measured again: %v, %v", h.durations, err)
	}
	if err := h.AddClass(t.Context(), "pbkdf2_sha256-5000001"); err == nil || len(h.durations) != 3 {
		t.Errorf("a class above the limits is measured: %v", h.durations)
	}
}

// R98.
func TestAClassIsMeasuredOnce(t *testing.T) {
	h := newHasher(1, hashBudget)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if err := h.AddClass(t.Context(), "argon2id-1024-1-1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := h.durations["argon2id-1024-1-1"]; took <= 0 {
		t.Errorf("one takes %v", took)
	}
	if h.taken != 1<<20 {
		t.Errorf("hashes took %d bytes, one measurement takes %d", h.taken, 1<<20)
	}
}

// Hashing fills the same memory for both.
//
// R98.
func TestAnUnknownUserIsHashedLikeAKnownOne(t *testing.T) {
	h := newHasher(1, hashBudget)
	own, err := h.Hash(t.Context(), refusal.Secret(plainPassword))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddClass(t.Context(), policy.class()); err != nil {
		t.Fatal(err)
	}
	for kind, stored := range map[string]string{"wrong password": own, "unknown user": "", "damaged hash": "argon2"} {
		before := h.taken
		if match, _, _, err := h.Verify(t.Context(), "", stored, "wrong"); match != "" || err != nil {
			t.Errorf("%s: match %v, %v", kind, match != "", err)
		}
		if took := h.taken - before; took != policy.bytes() {
			t.Errorf("%s: hashing took %d bytes, want %d", kind, took, policy.bytes())
		}
	}
}

// The garbage of hashes never takes more than the budget, however large the heap is. A test in
// integration_test/numbers measures the heap.
func TestTheCollectorRunsOncePerBudget(t *testing.T) {
	h := newHasher(3, 64<<20)
	r, err := parseClass("argon2id-16384-1-1") // four of them take the budget
	if err != nil {
		t.Fatal(err)
	}
	calls := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	before := calls()
	for n := range 13 {
		done, err := h.acquire(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		done()
		if got, want := calls()-before, uint32(n/4); got != want {
			t.Fatalf("after %d hashes the collector was called %d times, want %d", n+1, got, want)
		}
	}
}

// The estimates that the budget rests on are what hashing really allocates.
func TestTheMemoryOfAHashIsCounted(t *testing.T) {
	for _, class := range []string{
		"scrypt-16384-8-1", "scrypt-2048-8-5", "scrypt-64-64-16", "scrypt-4-1-16", "argon2id-8192-1-2", "bcrypt-4", "pbkdf2_sha1-1000",
	} {
		r, err := parseClass(class)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = r.decoy().matches("password")
		runtime.ReadMemStats(&after)
		took := int64(after.TotalAlloc - before.TotalAlloc)
		if err != nil || took < r.bytes() || took > r.bytes()+64<<10 {
			t.Errorf("%s: allocates %d bytes, counted are %d, %v", class, took, r.bytes(), err)
		}
	}
}

// TestEveryClassSetsTheTimeOfFailures, so that no scheme reveals itself.
func TestEveryClassSetsTheTimeOfFailures(t *testing.T) {
	for _, class := range []string{
		"scrypt-1024-8-1", "bcrypt-4", "bcrypt_sha256-4", "pbkdf2_sha1-1000", "pbkdf2_sha256-1000", "argon2i-64-1-1", "argon2id-64-1-1",
	} {
		h := newHasher(1, hashBudget)
		if err := h.AddClass(t.Context(), class); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if took := h.durations[class]; took <= 0 || h.FailAt(began).Sub(began) != took*6/5 {
			t.Errorf("%s takes %v, a failure is answered after %v", class, took, h.FailAt(began).Sub(began))
		}
	}
}

// Refusals wait for the slowest class, so its time must follow the machine. A test in
// integration_test/numbers checks the refusals on a busy machine.
//
// R98.
func TestAHashThatTakesLongerIsNoticed(t *testing.T) {
	h := newHasher(1, hashBudget)
	const measured = time.Nanosecond // no machine is that fast
	h.durations[policy.class()] = measured
	if _, _, _, err := h.Verify(t.Context(), "", "", "wrong"); err != nil {
		t.Fatal(err)
	}
	if got := h.slowdowns[policy.class()].extra; got != (maxSlowdown-1)*measured {
		t.Errorf("a hash that takes far longer counts as %v longer, want %v", got, (maxSlowdown-1)*measured)
	}
}

// R98.
func TestTheTimeOfAClassFollowsTheMachineAndRecovers(t *testing.T) {
	h := newHasher(1, hashBudget)
	now := time.Now()
	h.durations["slow"], h.durations["fast"] = 200*time.Millisecond, time.Millisecond
	h.observe("fast", 150*time.Millisecond, now) // less than the slow one takes anyway
	for _, tt := range []struct {
		took, after, want time.Duration
	}{
		{100 * time.Millisecond, 0, 240 * time.Millisecond},
		{400 * time.Millisecond, 0, 480 * time.Millisecond},
		{300 * time.Millisecond, 0, 480 * time.Millisecond}, // the slowest of late
		{0, slowdownHalfLife, 360 * time.Millisecond},
		{9 * time.Second, slowdownHalfLife, 1920 * time.Millisecond}, // capped
		{0, time.Hour, 240 * time.Millisecond},
	} {
		now = now.Add(tt.after)
		h.observe("slow", tt.took, now)
		if got := h.FailAt(now).Sub(now); (got - tt.want).Abs() > time.Millisecond {
			t.Errorf("%+v: answered after %v", tt, got)
		}
	}
	h.keepClasses(nil)
	if len(h.slowdowns) != 0 {
		t.Errorf("a forgotten class is still slow: %v", h.slowdowns)
	}
}
