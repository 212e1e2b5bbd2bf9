// Package password hashes passwords within bounds of memory and time, checks the ones that users
// choose, and reads the hashes that Django wrote.
//
// Stored forms, the only ones that are read:
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<digest>         ours (PHC string)
//	argon2$argon2id$v=19$m=102400,t=2,p=8$<salt>$<digest>  Django's, as the next two
//	pbkdf2_sha256$600000$<salt, as it is>$<digest>
//	bcrypt_sha256$$2b$12$<salt><digest>
//
// The scheme and the parameters of a hash are its class, such as "argon2id-19456-2-1",
// "pbkdf2_sha256-600000" or "bcrypt_sha256-12". The store counts how many users have a hash of
// which class, in decimal digits under scheme/<class>, because the slowest class sets the time of
// every failed login.
package password

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

// hashWorkers leaves one processor to everything that is not hashing.
func hashWorkers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// A BusyError says that too many passwords wait to be hashed. It is answered with 429.
type BusyError struct{ RetryAfter time.Duration }

// Error says why the login was refused.
func (e *BusyError) Error() string { return "too many logins are waiting" }

// A Hasher hashes passwords, a few at a time and in the order of their arrival. One semaphore
// covers the budget. Each hash takes the larger of its memory and its share of the processors (a
// lane is a goroutine), so neither memory nor processors run out, and a hash that is larger than
// the budget runs alone.
//
// Argon2 allocates its memory for each hash and leaves it to the garbage collector. The collector
// waits until the heap has doubled, which in a large heap is many hashes. So the Hasher calls it
// each time that hashes have allocated the budget once more. Hashing never holds more memory than
// the budget plus the hashes that run: with our own hashes 147 MiB for one worker and 242 MiB for
// six or more, with any hashes twice the budget.
type Hasher struct {
	budget  int64
	share   int64 // of one processor
	slots   *semaphore.Weighted
	waiting atomic.Int64

	measuring *semaphore.Weighted // of 1, so that a class is measured once

	collecting sync.Mutex
	taken      int64 // bytes since the collector was called; owned by collecting

	mu    sync.RWMutex
	takes map[string]time.Duration // class → how long one hash took; owned by mu, as is slow
	slow  map[string]slowness      // class → how much longer one took lately
}

// A slowness says how much longer a hash took while the machine was busy.
type slowness struct {
	extra time.Duration // beyond what was measured
	at    time.Time
}

const (
	maxSlowness  = 8           // times what was measured
	slownessHalf = time.Minute // its half-life
)

func (s slowness) left(now time.Time) time.Duration {
	halves := max(0, now.Sub(s.at).Minutes()/slownessHalf.Minutes())
	return time.Duration(float64(s.extra) * math.Exp2(-halves))
}

// NewHasher returns a Hasher for this machine.
func NewHasher() *Hasher { return newHasher(hashWorkers(), hashBudget) }

// newHasher returns a Hasher that runs up to workers hashes at once, in budgetBytes.
func newHasher(workers int, budgetBytes int64) *Hasher {
	return &Hasher{
		budget: budgetBytes, share: budgetBytes / int64(workers),
		slots: semaphore.NewWeighted(budgetBytes), measuring: semaphore.NewWeighted(1),
		takes: map[string]time.Duration{}, slow: map[string]slowness{},
	}
}

// turn waits until a hash of r may run. The caller calls done after the hash.
func (h *Hasher) turn(ctx context.Context, r recipe) (done func(), err error) {
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

// collect runs the garbage collector if a hash of that size would exceed the budget. Other hashes
// wait for the lock in the meantime, so they allocate nothing. In a small heap the collector has
// run recently and this takes no time; in one of hundreds of megabytes it runs somewhat more
// often than it would by itself.
func (h *Hasher) collect(bytes int64) {
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

// queueTime returns how long a full queue of our own hashes takes, in whole seconds.
func (h *Hasher) queueTime() time.Duration {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := h.takes[policy.class()] * maxHashWaiting / time.Duration(h.budget/h.share)
	return max(time.Second, all.Round(time.Second))
}

// Hash returns the form in which a new password is stored.
func (h *Hasher) Hash(ctx context.Context, password refusal.Secret) (stored string, err error) {
	done, err := h.turn(ctx, policy)
	if err != nil {
		return "", err
	}
	defer done()
	return newHash(password)
}

// Verify reports whether password is the one of stored. "" stands for no such user, or a user
// without a password: then Verify computes a hash of our own policy all the same, and nothing
// matches. weak means that it matched, but Hash makes another kind of hash today, so the caller
// should hash the password again. began is when its turn came and hashing began.
func (h *Hasher) Verify(ctx context.Context, stored string, password refusal.Secret) (match, weak bool, began time.Time, err error) {
	known := policy.decoy()
	if stored != "" {
		if known, err = parseHash(stored); err != nil {
			stored, known = "", policy.decoy() // a later version with higher bounds wrote it: nothing matches
		}
	}
	for _, r := range []recipe{policy, known.recipe} {
		if err := h.Know(ctx, r.class()); err != nil {
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

// Know tells the Hasher that the store holds hashes of class. The first time, it measures how
// long one takes.
func (h *Hasher) Know(ctx context.Context, class string) error {
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

func (h *Hasher) knows(class string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, ok := h.takes[class]
	return ok
}

func (h *Hasher) measure(ctx context.Context, r recipe) error {
	done, err := h.turn(ctx, r)
	if err != nil {
		return err
	}
	defer done()
	best := time.Duration(math.MaxInt64)
	for range 2 { // one of them may share its processor with other work
		began := time.Now()
		if _, err := r.decoy().matches("how long does this take?"); err != nil {
			return err
		}
		best = min(best, time.Since(began))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takes[r.class()] = best
	return nil
}

// observe raises the time of a class to what a hash of it took. Otherwise, while the machine is
// busy, failures of a slow class would be answered late and tell the class.
func (h *Hasher) observe(class string, took time.Duration, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	measured := h.takes[class]
	if extra := min(took, maxSlowness*measured) - measured; extra > h.slow[class].left(now) {
		h.slow[class] = slowness{extra, now}
	}
}

// keep forgets all classes but our own and those listed. A scheme no longer delays failed logins
// once the password of its last user is hashed again.
func (h *Hasher) keep(classes []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.takes, func(class string, _ time.Duration) bool {
		return class != policy.class() && !slices.Contains(classes, class)
	})
	maps.DeleteFunc(h.slow, func(class string, _ slowness) bool { return h.takes[class] == 0 })
}

// FailAt returns when to answer a failed login whose hashing began at began, whatever was wrong:
// after the time that the slowest known class takes at present, and a fifth more. So a user of a
// fast scheme, a user of a slow scheme and no user at all look the same.
func (h *Hasher) FailAt(began time.Time) time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var slowest time.Duration
	for class, took := range h.takes {
		slowest = max(slowest, took+h.slow[class].left(began))
	}
	return began.Add(slowest * 6 / 5)
}
