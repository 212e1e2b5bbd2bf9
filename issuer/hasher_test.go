package issuer

import (
	"context"
	"errors"
	"runtime"
	"runtime/metrics"
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
					if _, err := h.turn(ctx, r); err == nil {
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
	dear, small := recipe{schemeArgon2id, 102400, 2, 8}, recipe{scheme: schemePBKDF2, rounds: 1}
	untilDone(t, func(ctx context.Context) {
		release, err := h.turn(ctx, policy)
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		for n, r := range []recipe{dear, small, policy, small, dear} {
			go func() {
				done, err := h.turn(ctx, r)
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
	h.takes[policy.class()] = 20 * time.Millisecond
	untilDone(t, func(ctx context.Context) {
		release, _ := h.turn(ctx, policy)
		waiting, giveUp := context.WithCancel(ctx)
		var gaveUp atomic.Int64
		for range maxHashWaiting {
			go func() {
				if _, _, _, err := h.verify(waiting, "", "x"); errors.Is(err, context.Canceled) {
					gaveUp.Add(1)
				}
			}()
		}
		synctest.Wait()
		_, _, began, err := h.verify(ctx, "", "x")
		var busy *BusyError
		if !errors.As(err, &busy) || busy.RetryAfter != 5*time.Second || !began.IsZero() {
			t.Errorf("began %v, %v; RetryAfter must be the queue's time in whole seconds", began, err)
		}
		if _, err := h.hash(ctx, "x"); !errors.As(err, &busy) {
			t.Errorf("hash: %v", err)
		}

		giveUp()
		synctest.Wait()
		if gaveUp.Load() != maxHashWaiting || h.waiting.Load() != 0 {
			t.Errorf("%d gave up, %d still wait", gaveUp.Load(), h.waiting.Load())
		}
		release()
		if _, err := h.hash(ctx, "x"); err != nil {
			t.Errorf("after the storm: %v", err)
		}
	})
}

// R98.
func TestFailuresAreAnsweredAfterTheSlowestClass(t *testing.T) {
	h := newHasher(1, hashBudget)
	for class, took := range map[string]time.Duration{
		"argon2id-19456-2-1": 20 * time.Millisecond, "pbkdf2_sha256-600000": 200 * time.Millisecond, "bcrypt_sha256-4": time.Millisecond,
	} {
		h.takes[class] = took
	}
	began := time.Now()
	if got := h.failAt(began).Sub(began); got != 240*time.Millisecond {
		t.Errorf("answered after %v", got)
	}
	if err := h.know(t.Context(), "pbkdf2_sha256-600000"); err != nil || h.takes["pbkdf2_sha256-600000"] != 200*time.Millisecond {
		t.Errorf("measured again: %v, %v", h.takes, err)
	}
	if err := h.know(t.Context(), "pbkdf2_sha256-5000001"); err == nil || len(h.takes) != 3 {
		t.Errorf("a class over the caps is measured: %v", h.takes)
	}
}

// R98.
func TestAClassIsMeasuredOnce(t *testing.T) {
	h := newHasher(1, hashBudget)
	var all sync.WaitGroup
	began := time.Now()
	for range 100 {
		all.Go(func() {
			if err := h.know(t.Context(), "pbkdf2_sha256-200000"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	took := h.takes["pbkdf2_sha256-200000"]
	if took < time.Millisecond || time.Since(began) > 20*took {
		t.Errorf("one takes %v, all took %v", took, time.Since(began))
	}
}

// least of two times, of which 0 is none yet.
func least(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// TestEveryFailureTakesTheSameTime: whether the password is wrong, there is no such
// user, or the user's hash is of a scheme that is faster or slower than ours.
//
// R98.
func TestEveryFailureTakesTheSameTime(t *testing.T) {
	const (
		rounds = 5
		noise  = 10 * time.Millisecond
	)
	h := newHasher(1, hashBudget)
	own, err := h.hash(t.Context(), refusal.Secret(plainPassword))
	if err != nil {
		t.Fatal(err)
	}
	slow := recipe{schemeArgon2id, 65536, 2, 1}.nobody().String()
	fast := djangoHashes[1].stored
	for _, stored := range []string{slow, fast} {
		class, err := checkHash(stored)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.know(t.Context(), class); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[string]string{"wrong password": own, "unknown user": "", "slow scheme": slow, "fast scheme": fast}
	hashing, answered := map[string]time.Duration{}, map[string]time.Duration{} // the best of all rounds
	pace := func() time.Duration { now := time.Now(); return h.failAt(now).Sub(now) }
	steady := 0
	for tries := 0; steady < rounds; tries++ {
		if tries == 10*rounds {
			t.Fatalf("the pace of answers changed in all but %d of %d rounds", steady, tries)
		}
		before, round := pace(), map[string]time.Duration{}
		for kind, stored := range kinds {
			match, _, began, err := h.verify(t.Context(), stored, "wrong")
			if match || err != nil {
				t.Fatalf("%s: match %v, %v", kind, match, err)
			}
			hashing[kind] = least(hashing[kind], time.Since(began))
			time.Sleep(time.Until(h.failAt(began)))
			round[kind] = time.Since(began)
		}
		// A busy machine slows the answers to everything from then on. What was answered
		// before that cannot be compared with what came after it.
		if (pace() - before).Abs() > noise/2 {
			continue
		}
		steady++
		for kind, took := range round {
			answered[kind] = least(answered[kind], took)
		}
	}
	t.Logf("hashing took %v, answers %v", hashing, answered)
	for kind, took := range answered {
		if gap := (took - answered["unknown user"]).Abs(); gap > noise {
			t.Errorf("%s is answered after %v, an unknown user after %v", kind, took, answered["unknown user"])
		}
	}
	if hashing["unknown user"] < hashing["wrong password"]/4 {
		t.Errorf("hashing for nobody took %v, for somebody %v", hashing["unknown user"], hashing["wrong password"])
	}
}

// TestMemoryOfHashingIsBounded: 500 logins at once, and the heap grows by no more than
// the budget and one hash per worker, also where so much else is alive that the collector
// would not come by itself.
func TestMemoryOfHashingIsBounded(t *testing.T) {
	for _, tt := range []struct {
		workers int
		rest    int // MiB
	}{{1, 0}, {3, 0}, {6, 0}, {1, 500}} {
		h := newHasher(tt.workers, hashBudget)
		if err := h.know(t.Context(), policy.class()); err != nil {
			t.Fatal(err)
		}
		rest := make([]byte, tt.rest<<20) // never touched: it counts and costs nothing
		runtime.GC()
		before := heapBytes()
		top, refusals := loginStorm(t, h)
		runtime.KeepAlive(rest)
		peak, bound := top-before, int64(hashBudget)+int64(tt.workers)*policy.bytes()
		t.Logf("%+v: peak %d MiB of %d, %d refused", tt, peak>>20, bound>>20, refusals)
		if peak > bound || peak < policy.bytes() || refusals == 0 {
			t.Errorf("%+v: peak %d MiB, bound %d MiB, %d refused", tt, peak>>20, bound>>20, refusals)
		}
	}
}

// loginStorm begins 500 logins, ends them after the 20th hash (the peak comes with the
// first ten) and returns the most that the heap held meanwhile.
func loginStorm(t *testing.T, h *hasher) (peak, refusals int64) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var hashes, busy atomic.Int64
	for range 500 {
		all.Go(func() {
			var full *BusyError
			if _, _, _, err := h.verify(ctx, "", "password"); errors.As(err, &full) {
				busy.Add(1)
			} else if err == nil && hashes.Add(1) == 20 {
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

// TestHashingStarvesNobody: a goroutine that wants to run every millisecond does, while
// the queue is full. If hashing held all processors it would be late nearly always, by up
// to the 10 ms after which Go takes a processor away; the rest of the machine makes it late
// now and then, so the median counts.
func TestHashingStarvesNobody(t *testing.T) {
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("one processor is always shared")
	}
	for _, tt := range []struct {
		kind, stored string
		logins       int
	}{
		{"no logins", "", 0},
		{"ours", "", 50},
		{"PBKDF2", djangoHashes[0].stored, 50},
		{"bcrypt", djangoHashes[4].stored, 50},
		{"Argon2 of eight lanes", djangoHashes[7].stored, 50},
	} {
		late := lateness(t, tt.stored, tt.logins)
		median, p99 := late[len(late)/2], late[len(late)*99/100]
		t.Logf("%s: late by %v, p99 %v", tt.kind, median, p99)
		if median > 4*time.Millisecond {
			t.Errorf("%s: late by %v", tt.kind, median)
		}
	}
}

// lateness returns by how much a goroutine woke too late while so many others logged in
// again and again, sorted.
func lateness(t *testing.T, stored string, logins int) []time.Duration {
	h := newHasher(hashWorkers(), hashBudget)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range logins {
		all.Go(func() {
			for ctx.Err() == nil {
				h.verify(ctx, stored, "password")
			}
		})
	}
	var late []time.Duration
	for range 150 {
		began := time.Now()
		time.Sleep(time.Millisecond)
		late = append(late, time.Since(began)-time.Millisecond)
	}
	cancel()
	all.Wait()
	return slices.Sorted(slices.Values(late))
}

// R98.
func TestWhatAClassTakesFollowsTheMachineAndComesBack(t *testing.T) {
	h := newHasher(1, hashBudget)
	now := time.Now()
	h.takes["slow"], h.takes["fast"] = 200*time.Millisecond, time.Millisecond
	h.observe("fast", 150*time.Millisecond, now) // less than the slow one takes anyway
	for _, tt := range []struct {
		took, after, want time.Duration
	}{
		{100 * time.Millisecond, 0, 240 * time.Millisecond},
		{400 * time.Millisecond, 0, 480 * time.Millisecond},
		{300 * time.Millisecond, 0, 480 * time.Millisecond}, // the slowest of late
		{0, slownessHalf, 360 * time.Millisecond},
		{9 * time.Second, slownessHalf, 1920 * time.Millisecond}, // capped
		{0, time.Hour, 240 * time.Millisecond},
	} {
		now = now.Add(tt.after)
		h.observe("slow", tt.took, now)
		if got := h.failAt(now).Sub(now); (got - tt.want).Abs() > time.Millisecond {
			t.Errorf("%+v: answered after %v", tt, got)
		}
	}
	h.keep(nil)
	if len(h.slow) != 0 {
		t.Errorf("what is forgotten is slow: %v", h.slow)
	}
}

// TestAFailureIsInTimeAlsoOnABusyMachine: after a few logins, most hashes of a slow
// class are done before a failure for nobody would be answered.
//
// R98.
func TestAFailureIsInTimeAlsoOnABusyMachine(t *testing.T) {
	h := newHasher(1, hashBudget)
	slow := recipe{schemeArgon2id, 32768, 2, 1}.nobody().String()
	class, err := checkHash(slow)
	if err != nil || h.know(t.Context(), class) != nil {
		t.Fatal("the class cannot be measured")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for range 2 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for ctx.Err() == nil {
			}
		})
	}
	const warmUp, rounds = 3, 12
	late := 0
	for n := range warmUp + rounds {
		asked := time.Now()
		allowed := h.failAt(asked).Sub(asked)
		_, _, began, err := h.verify(t.Context(), slow, "wrong")
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		if n >= warmUp && took > allowed && took < maxSlowness*h.takes[class] {
			late++
		}
	}
	t.Logf("%d of %d late", late, rounds)
	if late > rounds/3 {
		t.Errorf("%d of %d are answered late", late, rounds)
	}
}
