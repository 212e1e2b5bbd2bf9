package issuer

import (
	"context"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keymill/issuer/refusal"

	"golang.org/x/sync/semaphore"
)

const (
	hashBudget     = 128 << 20 // bytes in use by all hashing at once
	maxHashWaiting = 256
)

// hashWorkers leaves one processor to all that is not hashing.
func hashWorkers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// A hasher hashes passwords, a few at a time and first come first served: one semaphore
// over the budget, of which each hash takes the larger of its memory and its share of the
// processors (a lane is a goroutine). So neither memory nor processors run out, and what
// is too dear for both runs alone.
//
// Argon2 allocates its memory for each hash and leaves it to the collector, which waits
// until the heap has grown by as much again or more; in a large heap that is a lot of
// hashes. So the hasher calls it whenever hashes have taken the budget once more. Hashing
// never holds more than the budget and what runs beside it: with our own hashes 147 MiB
// for one worker, 242 MiB for six or more; with any hashes twice the budget.
type hasher struct {
	budget  int64
	share   int64 // of one processor
	slots   *semaphore.Weighted
	waiting atomic.Int64

	measuring *semaphore.Weighted // one at a time, so that a class is measured once

	collecting sync.Mutex
	taken      int64 // bytes, since the collector was called; collecting

	mu    sync.RWMutex
	takes map[string]time.Duration // class → how long one hash took; mu
	slow  map[string]slowness      // class → how much longer one took of late; mu
}

// A slowness is what a hash took on a machine that had other things to do.
type slowness struct {
	extra time.Duration // beyond what was measured
	at    time.Time
}

const (
	maxSlowness  = 8           // times what was measured
	slownessHalf = time.Minute // half of it is forgotten in that time
)

func (s slowness) left(now time.Time) time.Duration {
	halves := max(0, now.Sub(s.at).Minutes()/slownessHalf.Minutes())
	return time.Duration(float64(s.extra) * math.Exp2(-halves))
}

// newHasher returns a hasher that runs up to workers hashes at once, in budgetBytes.
func newHasher(workers int, budgetBytes int64) *hasher {
	return &hasher{
		budget: budgetBytes, share: budgetBytes / int64(workers),
		slots: semaphore.NewWeighted(budgetBytes), measuring: semaphore.NewWeighted(1),
		takes: map[string]time.Duration{}, slow: map[string]slowness{},
	}
}

// turn waits until r may be hashed and returns what must be called when it has been.
func (h *hasher) turn(ctx context.Context, r recipe) (done func(), err error) {
	weight := min(h.budget, max(r.bytes(), h.share*int64(max(1, r.lanes))))
	if !h.slots.TryAcquire(weight) {
		defer h.waiting.Add(-1)
		if h.waiting.Add(1) > maxHashWaiting {
			return nil, &BusyError{RetryAfter: h.queueTime()}
		}
		if err := h.slots.Acquire(ctx, weight); err != nil {
			return nil, err
		}
	}
	h.collect(r.bytes())
	return func() { h.slots.Release(weight) }, nil
}

// collect makes room for a hash of that size. Whoever comes meanwhile waits, and so adds
// nothing. In a small heap the collector has just been there and this takes no time; in
// one of hundreds of megabytes it runs rather more often than it would.
func (h *hasher) collect(bytes int64) {
	if bytes == 0 {
		return
	}
	h.collecting.Lock()
	defer h.collecting.Unlock()
	if h.taken+bytes > h.budget {
		runtime.GC()
		h.taken = 0
	}
	h.taken += bytes
}

// queueTime is how long a full queue of our own hashes takes, in whole seconds.
func (h *hasher) queueTime() time.Duration {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := h.takes[policy.class()] * maxHashWaiting / time.Duration(h.budget/h.share)
	return max(time.Second, all.Round(time.Second))
}

// hash makes the hash under which a new password is stored.
func (h *hasher) hash(ctx context.Context, password refusal.Secret) (stored string, err error) {
	done, err := h.turn(ctx, policy)
	if err != nil {
		return "", err
	}
	defer done()
	return newHash(password)
}

// verify tells whether password is the one of stored. stored "" stands for no such user
// or no password: a hash of our own policy is computed all the same and nothing matches.
// weak: it matched and is below or other than our policy, so hash again. began: when its
// turn came and hashing began.
func (h *hasher) verify(ctx context.Context, stored string, password refusal.Secret) (match, weak bool, began time.Time, err error) {
	known := policy.nobody()
	if stored != "" {
		if known, err = parseHash(stored); err != nil {
			stored, known = "", policy.nobody() // of a later policy's caps: nothing matches it
		}
	}
	for _, r := range []recipe{policy, known.recipe} {
		if err := h.know(ctx, r.class()); err != nil {
			return false, false, began, err
		}
	}
	done, err := h.turn(ctx, known.recipe)
	if err != nil {
		return false, false, began, err
	}
	defer done()
	began = time.Now()
	match, err = known.matches(password)
	h.observe(known.class(), time.Since(began), time.Now())
	match = match && stored != ""
	return match, match && !known.current(), began, err
}

// know tells the hasher that hashes of class are in the store. How long one takes is
// measured, by hashing, the first time.
func (h *hasher) know(ctx context.Context, class string) error {
	if h.knows(class) {
		return nil
	}
	r, err := parseClass(class)
	if err != nil {
		return err
	}
	if err := h.measuring.Acquire(ctx, 1); err != nil {
		return err
	}
	defer h.measuring.Release(1)
	if h.knows(class) {
		return nil
	}
	return h.measure(ctx, r)
}

func (h *hasher) knows(class string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, ok := h.takes[class]
	return ok
}

func (h *hasher) measure(ctx context.Context, r recipe) error {
	done, err := h.turn(ctx, r)
	if err != nil {
		return err
	}
	defer done()
	best := time.Duration(math.MaxInt64)
	for range 2 { // one of them may have shared its processor
		began := time.Now()
		if _, err := r.nobody().matches("how long does this take?"); err != nil {
			return err
		}
		best = min(best, time.Since(began))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takes[r.class()] = best
	return nil
}

// observe raises what a class takes to what it took: while the machine is busy, a slow
// class would otherwise be told by its failures being answered late.
func (h *hasher) observe(class string, took time.Duration, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	measured := h.takes[class]
	if extra := min(took, maxSlowness*measured) - measured; extra > h.slow[class].left(now) {
		h.slow[class] = slowness{extra, now}
	}
}

// keep forgets what is neither our own nor among classes, so that a scheme whose last user
// has been rehashed does not hold up failed logins any more.
func (h *hasher) keep(classes []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.takes, func(class string, _ time.Duration) bool {
		return class != policy.class() && !slices.Contains(classes, class)
	})
	maps.DeleteFunc(h.slow, func(class string, _ slowness) bool { return h.takes[class] == 0 })
}

// failAt returns when a failed login that began then is answered, whatever was wrong:
// after the slowest known class, as it was of late, and a fifth more, so that a user of a
// fast scheme, one of a slow scheme and nobody at all look the same.
func (h *hasher) failAt(began time.Time) time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var slowest time.Duration
	for class, took := range h.takes {
		slowest = max(slowest, took+h.slow[class].left(began))
	}
	return began.Add(slowest * 6 / 5)
}
