package limit

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// An Account says what the failures of an account have led to.
type Account struct {
	Failures int       // in the last Window, at all addresses
	Blocked  []Block   // in the order of addresses
	Drawn    time.Time // until when attempts from unknown addresses are drawn; zero if they are not
}

// A Block is an address from which logins of an account are refused.
type Block struct {
	From  netip.Addr // of IPv6 the first address of the /64
	Until time.Time
}

// A turnedAway attempt was refused because other accounts have failed at the address too often.
type turnedAway struct {
	from  netip.Addr
	until time.Duration
}

// Account returns what is known about an account.
func (l *PasswordLimiter) Account(account string) Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	var shown Account
	now, unblocked, blocked := l.now(), l.isUnblocked(accountKey(account)), map[netip.Addr]time.Duration{} // address → for how long
	for at, b := range l.atAddresses(account) {
		shown.Failures += b.recent(now)
		blocked[at.from] = b.exhausted(l.accountAtAddressLimits(), now)
		if a := l.addresses.get(at.from); a != nil && !unblocked && l.known.get(at) == nil {
			blocked[at.from] = max(blocked[at.from], a.exhausted(l.addressLimits(), now))
		}
	}
	if t := l.turnedAway.get(accountKey(account)); t != nil && !unblocked {
		blocked[t.from] = max(blocked[t.from], t.until-now)
	}
	for from, wait := range blocked {
		if wait > 0 {
			shown.Blocked = append(shown.Blocked, Block{from, l.started.Add(now + wait)})
		}
	}
	shown.Drawn = l.drawnUntil(accountKey(account))
	slices.SortFunc(shown.Blocked, func(a, b Block) int { return cmp.Or(a.From.Compare(b.From), a.Until.Compare(b.Until)) })
	return shown
}

// drawnUntil returns when an account has fewer than maxGuesses failures if none follows.
func (l *PasswordLimiter) drawnUntil(account string) time.Time {
	var newest []time.Duration
	if b := l.accounts.get(account); b != nil {
		newest = b.failures
	}
	if g := l.guessed.get(account); g != nil && len(g.failures) > len(newest) {
		newest = g.failures
	}
	most := l.maxGuesses()
	if len(newest) < most || newest[len(newest)-most]+GuessWindow <= l.now() {
		return time.Time{}
	}
	return l.started.Add(newest[len(newest)-most] + GuessWindow)
}

// Forget forgets where an account has logged in. Call it when the account was removed, because another
// one may get its name at once.
func (l *PasswordLimiter) Forget(account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.known.entries {
		if at.name == accountKey(account) {
			l.known.dropIf(at, func(*struct{}) bool { return true })
		}
	}
}

// An unblocking is what Unblock was told last.
type unblocking struct {
	at    time.Time
	until time.Duration // until when the count of an address does not limit the account
}

// Unblock forgets the failures of an account, as if they had not happened to it. They stay counted
// for their addresses, but for one Window the count of an address does not limit the account. at is when an administrator
// asked for that, and ago how long ago that was. Call it before each attempt of the account: the first call with an at forgets, and
// the others do nothing, as does one with an at that is zero or before all failures that count.
func (l *PasswordLimiter) Unblock(account string, at time.Time, ago time.Duration) {
	if at.IsZero() || ago >= GuessWindow {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := accountKey(account)
	last := l.unblocked.getOrAdd(key)
	if !at.After(last.at) {
		return
	}
	*last = unblocking{at, l.now() + Window - ago}
	for at, b := range l.atAddresses(account) {
		b.failures = nil
		l.accountsAtAddress.dropIf(at, (*budget).empty)
	}
	if b := l.accounts.get(key); b != nil {
		b.failures = nil
		l.accounts.dropIf(key, (*budget).empty)
	}
	if g := l.guessed.get(key); g != nil {
		g.failures, g.opens = nil, 0
	}
	l.turnedAway.dropIf(key, func(*turnedAway) bool { return true })
}

// isUnblocked reports whether the account was unblocked in the last Window.
func (l *PasswordLimiter) isUnblocked(key string) bool {
	last := l.unblocked.get(key)
	return last != nil && l.now() < last.until
}

// atAddresses returns the budgets of an account at the addresses where it has failed.
func (l *PasswordLimiter) atAddresses(account string) map[nameAt]*budget {
	found := map[nameAt]*budget{}
	for at, e := range l.accountsAtAddress.entries {
		if at.name == accountKey(account) {
			found[at] = &e.Value.(*lruEntry[nameAt, budget]).value
		}
	}
	return found
}
