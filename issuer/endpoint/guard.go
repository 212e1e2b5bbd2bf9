package endpoint

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How often a client's secret may be shown wrongly. Only failures count.
const (
	failureWindow   = 15 * time.Minute
	pairFailures    = 10  // of one client from one address
	sourceFailures  = 100 // of all clients from one address
	maxRemembered   = 10_000
	maxGuardedBytes = 100 // of a client id; longer ones do not exist and share an entry
)

// A guard slows down guessing. A secret of ours cannot be guessed anyway; what this
// stops is the noise, and lists of leaked secrets being tried. It keeps the newest
// 10,000 of each kind, so an attacker with more addresses than that can make it
// forget, but never make it grow. Requests that run at the same time are all let in
// before the first of them fails: a burst may exceed a limit by its own width.
type guard struct {
	mu      sync.Mutex
	pairs   lru[pair, attempt]       // owned by mu
	sources lru[netip.Addr, attempt] // owned by mu
}

type pair struct {
	client string
	from   netip.Addr
}

// An attempt is what is remembered of a pair or a source.
type attempt struct {
	failures *rate.Limiter // nil until the first failure
	welcome  bool          // has succeeded: its neighbours' failures do not stop it
}

func newGuard() *guard {
	return &guard{pairs: newLRU[pair, attempt](maxRemembered), sources: newLRU[netip.Addr, attempt](maxRemembered)}
}

// wait says how long the client at that address has to wait, 0 if it need not.
func (g *guard) wait(client string, from netip.Addr, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.pairs.get(pairOf(client, from))
	if p != nil && p.failures != nil {
		if d := wait(p.failures, now); d > 0 {
			return d
		}
	}
	if p != nil && p.welcome {
		return 0
	}
	if s := g.sources.get(from); s != nil {
		return wait(s.failures, now)
	}
	return 0
}

func (g *guard) failed(client string, from netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pairs.getOrAdd(pairOf(client, from)).fail(pairFailures, now)
	g.sources.getOrAdd(from).fail(sourceFailures, now)
}

func (g *guard) succeeded(client string, from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pairs.getOrAdd(pairOf(client, from)).welcome = true
}

func pairOf(client string, from netip.Addr) pair {
	if len(client) > maxGuardedBytes {
		client = ""
	}
	return pair{client, from}
}

func (a *attempt) fail(allowed int, now time.Time) {
	if a.failures == nil {
		a.failures = rate.NewLimiter(rate.Every(failureWindow/time.Duration(allowed)), allowed)
	}
	a.failures.AllowN(now, 1)
}

func wait(l *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing / float64(l.Limit()) * float64(time.Second))
}
