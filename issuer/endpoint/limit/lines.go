package limit

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of a LineLimiter.
const (
	CallerLines     = 20               // at once, of one user at one address
	CallerLineEvery = 10 * time.Second // after that
	Lines           = 100              // at once, of all
	LineEvery       = time.Second / 2  // after that
)

// A LineLimiter bounds the log lines that callers cause. Each user at each address has a
// bound of its own, so that an attack from one address does not hide what happens at
// others. The bound of all lines keeps an attack from many addresses from filling the disk.
type LineLimiter struct {
	mu      sync.Mutex
	all     *rate.Limiter              // owned by mu, like callers
	callers lru[nameAt, *rate.Limiter] // users at an address
}

// NewLineLimiter returns a LineLimiter that has counted nothing.
func NewLineLimiter() *LineLimiter {
	return &LineLimiter{
		all:     rate.NewLimiter(rate.Every(LineEvery), Lines),
		callers: newLRU[nameAt, *rate.Limiter](maxRemembered),
	}
}

// Allow reports whether a line may be written now, and counts it. user is "" for a request
// that no user is known for.
func (l *LineLimiter) Allow(user string, from netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	caller := l.callers.getOrAdd(nameAt{user, network(from)})
	if *caller == nil {
		*caller = rate.NewLimiter(rate.Every(CallerLineEvery), CallerLines)
	}
	return (*caller).AllowN(now, 1) && l.all.AllowN(now, 1)
}
