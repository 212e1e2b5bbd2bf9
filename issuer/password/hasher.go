// Package password hashes passwords with bounded memory and time, checks new passwords against the
// policy, and verifies hashes that Django wrote.
//
// Stored forms, the only ones that are read:
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<digest>         ours (PHC string)
//	argon2$argon2id$v=19$m=102400,t=2,p=8$<salt>$<digest>  Django's, as all below
//	pbkdf2_sha256$600000$<salt, as it is>$<digest>         and pbkdf2_sha1
//	bcrypt_sha256$$2b$12$<salt><digest>                    and bcrypt
//	scrypt$16384$<salt, as it is>$8$5$<digest>             N, r and p
//
// The scheme and the parameters of a hash are its class, such as "argon2id-19456-2-1",
// "pbkdf2_sha256-600000", "bcrypt_sha256-12" or "scrypt-16384-8-5". The store counts how many users have a hash of
// which class, in decimal digits under scheme/<class>, because the slowest class sets the time of
// every failed login.
package password

import (
	"context"
	"errors"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"keymill/issuer/refusal"

	"golang.org/x/sync/semaphore"
)

const hashBudget = 128 << 20 // bytes in use by all hashing at once

// hashWorkers leaves one processor to everything that is not hashing.
func hashWorkers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// A BusyError says that too many passwords wait to be hashed. It is answered with 429.
type BusyError struct{ RetryAfter time.Duration }

// Error says why the login was refused.
func (e *BusyError) Error() string { return "too many logins are waiting" }

// A Hasher hashes passwords, a few at a time and in the order of their arrival, see turns. One budget
// covers all. Each hash takes the larger of its memory and its share of the processors (a
// lane is a goroutine), so neither memory nor processors run out. A hash whose weight would exceed
// the budget runs alone.
//
// Argon2 and scrypt allocate their memory for each hash and leave it to the garbage collector. The collector
// waits until the heap has doubled, which in a large heap is many hashes. So the Hasher calls it
// each time that hashes have allocated the budget once more. Hashing never holds more memory than
// the budget plus the hashes that run: with our own hashes 147 MiB for one worker and 242 MiB for
// six or more, with any hashes twice the budget.
type Hasher struct {
	budget int64
	share  int64 // of one processor
	turns  *turns

	measuring *semaphore.Weighted // of 1, so that a class is measured once

	collecting sync.Mutex
	taken      int64 // bytes since the collector was called; owned by collecting

	mu        sync.RWMutex
	durations map[string]time.Duration // class → how long one hash took; owned by mu, as are slowdowns
	slowdowns map[string]slowdown      // class → how much longer one took recently
}

// A slowdown says how much longer a hash took while the machine was busy.
type slowdown struct {
	extra time.Duration // beyond what was measured
	at    time.Time
}

const (
	maxSlowdown      = 8 // times what was measured
	slowdownHalfLife = time.Minute
)

func (s slowdown) left(now time.Time) time.Duration {
	halves := max(0, now.Sub(s.at).Minutes()/slowdownHalfLife.Minutes())
	return time.Duration(float64(s.extra) * math.Exp2(-halves))
}

// NewHasher returns a Hasher for this machine.
func NewHasher() *Hasher { return newHasher(hashWorkers(), hashBudget) }

// newHasher returns a Hasher that runs up to workers hashes at once, in budgetBytes.
func newHasher(workers int, budgetBytes int64) *Hasher {
	return &Hasher{
		budget: budgetBytes, share: budgetBytes / int64(workers),
		turns: &turns{free: budgetBytes}, measuring: semaphore.NewWeighted(1),
		durations: map[string]time.Duration{}, slowdowns: map[string]slowdown{},
	}
}

// Waiting returns how many hashes wait for their turn.
func (h *Hasher) Waiting() int { return h.turns.waiting() }

// acquire waits until a hash of r may run. The caller calls done after the hash.
func (h *Hasher) acquire(ctx context.Context, r params) (done func(), err error) {
	return h.acquireFor(ctx, "", r)
}

// acquireFor waits in the place of an account, if it is not "".
func (h *Hasher) acquireFor(ctx context.Context, account string, r params) (done func(), err error) {
	weight := min(h.budget, max(r.bytes(), h.share*int64(r.threads())))
	switch err := h.turns.acquire(ctx, account, weight); {
	case errors.Is(err, errQueueFull):
		return nil, &BusyError{RetryAfter: h.queueTime()}
	case err != nil:
		return nil, err
	}
	h.collect(r.bytes())
	return func() { h.turns.release(weight) }, nil
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
	all := h.durations[policy.class()] * maxHashWaiting / time.Duration(h.budget/h.share)
	return max(time.Second, all.Round(time.Second))
}

// Hash returns the form in which a new password is stored.
func (h *Hasher) Hash(ctx context.Context, password refusal.Secret) (stored string, err error) {
	done, err := h.acquire(ctx, policy)
	if err != nil {
		return "", err
	}
	defer done()
	return newHash(password)
}

// Verify returns the one of passwords that stored is a hash of, or "" if none is. It hashes them in
// order until one matches, with one place in the queue. An empty password never matches, nor does
// one longer than MaxBytes. stored is "" if the user does not exist or has no password: Verify then
// computes as many hashes, with our own policy. weak means that one matched, but Hash makes another
// kind of hash today, so the caller should hash the password again. It is false if stored says
// nothing about the end of a long password.
//
// began, for FailAt, is when the last hash began, after the wait in the queue. A hash counts as
// begun no earlier than the hash before it, alone, would have been answered. Otherwise the time of
// a failure would reveal how long the first hash took, and so whether the user exists.
//
// account is a name that all logins of one account share, for a place in the queue that other logins cannot
// take; "" means no such place.
func (h *Hasher) Verify(ctx context.Context, account, stored string, passwords ...refusal.Secret) (match refusal.Secret, weak bool, began time.Time, err error) {
	known := policy.decoy()
	if stored != "" {
		if known, err = parseHash(stored); err != nil {
			stored, known = "", policy.decoy() // a later version with higher bounds wrote it: nothing matches
		}
	}
	for _, r := range []params{policy, known.params} {
		if err := h.addClass(ctx, account, r.class()); err != nil {
			return "", false, began, err
		}
	}
	done, err := h.acquireFor(ctx, account, known.params)
	if err != nil {
		return "", false, began, err
	}
	defer done()
	for n, password := range passwords {
		if n > 0 {
			h.collect(known.bytes())
			began = h.FailAt(began)
		}
		if now := time.Now(); now.After(began) {
			began = now
		}
		switch matches, err := h.matches(known, password); {
		case err != nil:
			return "", false, began, err
		case matches && stored != "":
			return password, !known.current() && !known.ignores(password), began, nil
		}
	}
	return "", false, began, nil
}

// matches hashes password and remembers how long that took.
func (h *Hasher) matches(known storedHash, password refusal.Secret) (bool, error) {
	began := time.Now()
	match, err := known.matches(password)
	now := time.Now()
	h.observe(known.class(), now.Sub(began), now)
	return match && password != "" && len(password) <= MaxBytes, err
}

// AddClass tells the Hasher that the store has hashes of class. At the first call for a class it
// measures how long one hash takes.
func (h *Hasher) AddClass(ctx context.Context, class string) error { return h.addClass(ctx, "", class) }

func (h *Hasher) addClass(ctx context.Context, account, class string) error {
	if h.hasClass(class) {
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
	if h.hasClass(class) {
		return nil
	}
	return h.measure(ctx, account, r)
}

func (h *Hasher) hasClass(class string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, ok := h.durations[class]
	return ok
}

func (h *Hasher) measure(ctx context.Context, account string, r params) error {
	done, err := h.acquireFor(ctx, account, r)
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
	h.durations[r.class()] = best
	return nil
}

// observe raises the time of a class to what a hash of it took. Otherwise, while the machine is
// busy, failures of a slow class would be answered late and reveal the class.
func (h *Hasher) observe(class string, took time.Duration, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	measured := h.durations[class]
	if extra := min(took, maxSlowdown*measured) - measured; extra > h.slowdowns[class].left(now) {
		h.slowdowns[class] = slowdown{extra, now}
	}
}

// keepClasses forgets all classes except our own and those listed. So a slow scheme stops delaying
// failed logins once no stored hash uses it.
func (h *Hasher) keepClasses(classes []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.durations, func(class string, _ time.Duration) bool {
		return class != policy.class() && !slices.Contains(classes, class)
	})
	maps.DeleteFunc(h.slowdowns, func(class string, _ slowdown) bool { return h.durations[class] == 0 })
}

// FailAt returns when to answer a failed login whose hashing began at began, whatever was wrong:
// after the time that the slowest known class takes at present, and a fifth more. So the time does
// not reveal whether the user exists or which scheme the hash has.
func (h *Hasher) FailAt(began time.Time) time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var slowest time.Duration
	for class, took := range h.durations {
		slowest = max(slowest, took+h.slowdowns[class].left(began))
	}
	return began.Add(slowest * 6 / 5)
}
