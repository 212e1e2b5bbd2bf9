package limit

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A ClientLimiter limits wrong client secrets. Our secrets have too many bits to be
// guessed. The limiter stops floods of requests, and attempts with lists of leaked secrets.
// Requests that run at the same time are all let in before the first of them fails, so a
// burst can exceed a limit by its own size.
type ClientLimiter struct {
	share     Share
	mu        sync.Mutex
	clients   lru[nameAt, clientRecord]     // owned by mu
	addresses lru[netip.Addr, clientRecord] // owned by mu
}

type clientRecord struct {
	failures *rate.Limiter // nil until the first failure
	known    bool          // has succeeded: failures of other clients at the address do not limit it
}

// NewClientLimiter returns a ClientLimiter that has counted nothing.
func NewClientLimiter(share Share) *ClientLimiter {
	return &ClientLimiter{
		share:     share,
		clients:   newLRU[nameAt, clientRecord](maxRemembered),
		addresses: newLRU[netip.Addr, clientRecord](maxRemembered),
	}
}

// Wait returns how long the client at that address has to wait before its next attempt, 0
// if it need not wait.
func (l *ClientLimiter) Wait(client string, from netip.Addr, now time.Time) time.Duration {
	from = network(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.clients.get(clientAt(client, from))
	if c != nil && c.failures != nil {
		if d := c.untilToken(l.share.of(ClientFailures), now); d > 0 {
			return d
		}
	}
	if c != nil && c.known {
		return 0
	}
	if a := l.addresses.get(from); a != nil {
		return a.untilToken(l.share.of(AddressFailures), now)
	}
	return 0
}

// Failed counts a wrong secret.
func (l *ClientLimiter) Failed(client string, from netip.Addr, now time.Time) {
	from = network(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients.getOrAdd(clientAt(client, from)).fail(l.share.of(ClientFailures), now)
	l.addresses.getOrAdd(from).fail(l.share.of(AddressFailures), now)
}

// Succeeded exempts the client at that address from the limit of the address.
func (l *ClientLimiter) Succeeded(client string, from netip.Addr) {
	from = network(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients.getOrAdd(clientAt(client, from)).known = true
}

// clientAt gives all names that are too long for a client_id one record.
func clientAt(client string, from netip.Addr) nameAt {
	if len(client) > maxNameBytes {
		client = ""
	}
	return nameAt{client, from}
}

func (c *clientRecord) fail(allowed int, now time.Time) {
	if c.failures == nil {
		c.failures = rate.NewLimiter(rate.Every(Window/time.Duration(allowed)), allowed)
	}
	c.allow(allowed, now)
	c.failures.AllowN(now, 1)
}

// allow changes the limit of a record that was made while another one applied.
func (c *clientRecord) allow(failures int, now time.Time) {
	if c.failures.Burst() != failures {
		c.failures.SetLimitAt(now, rate.Every(Window/time.Duration(failures)))
		c.failures.SetBurstAt(now, failures)
	}
}

func (c *clientRecord) untilToken(allowed int, now time.Time) time.Duration {
	c.allow(allowed, now)
	missing := 1 - c.failures.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing / float64(c.failures.Limit()) * float64(time.Second))
}

// An AddressLimiter limits tokens that are not valid. They cannot be guessed, so it only bounds the work of
// checking them.
type AddressLimiter struct {
	share     Share
	mu        sync.Mutex
	addresses lru[netip.Addr, clientRecord] // owned by mu
}

// NewAddressLimiter returns an AddressLimiter that has counted nothing.
func NewAddressLimiter(share Share) *AddressLimiter {
	return &AddressLimiter{share: share, addresses: newLRU[netip.Addr, clientRecord](maxRemembered)}
}

// Wait returns how long the address has to wait before its next attempt, 0 if it need not wait.
func (l *AddressLimiter) Wait(from netip.Addr, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.addresses.get(network(from)); a != nil {
		return a.untilToken(l.share.of(AddressFailures), now)
	}
	return 0
}

// Failed counts a token that is not valid.
func (l *AddressLimiter) Failed(from netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addresses.getOrAdd(network(from)).fail(l.share.of(AddressFailures), now)
}
