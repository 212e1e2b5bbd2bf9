package limit

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// FirstDelay and LongestDelay bound how long an attempt waits when its account has failed
// too often from all addresses together.
const (
	FirstDelay   = time.Second
	LongestDelay = 10 * time.Second
)

const (
	failuresBeforeDelay  = 10   // of an account from all addresses, until attempts are delayed
	slowFailures         = 4    // more, after those, do not lengthen the delay
	maxRunningPerAddress = 20   // attempts that are checked or delayed
	maxDelayed           = 50   // attempts of one account that wait out a delay
	maxDelayedPerAddress = 2    // those of them from one address
	maxQueued            = 1000 // attempts that wait for any reason, at known addresses, and at others
)

// A PasswordLimiter limits wrong passwords. Unlike a ClientLimiter it is exact: an attempt
// takes its part of each budget before its password is checked. See the package
// documentation for the limits.
//
// The caller passes one account name for all spellings of a user name, and both login
// endpoints share the limiter. At a known address, where the account has logged in before,
// only the budget of the account at this address applies, and the attempt waits in a queue of
// its own: no attempt from elsewhere limits it. A few addresses can only delay logins from
// other addresses: of one address, 20 attempts run at a time and two wait out the delay of one
// account, and its waiting attempts always leave as many places to other addresses as they
// take. After MaxGuesses failures of an account in an hour, attempts from other addresses are
// drawn, see guessedAccount.
//
// An attempt takes the budgets in the order address, account at address, account, and gives
// them back together, so that no attempts wait for each other in a circle. Known addresses
// are stored separately from failures, so that names invented by an attacker cannot evict
// them. The caller keeps some of them over a restart, see Remember. Account, Unblock and Forget
// are for operators.
type PasswordLimiter struct {
	started           time.Time
	share             Share
	mu                sync.Mutex
	accounts          lru[string, budget] // owned by mu, like all below
	addresses         lru[netip.Addr, budget]
	accountsAtAddress lru[nameAt, budget] // accounts at an address
	guessed           lru[string, guessedAccount]
	known             lru[nameAt, struct{}]   // where an account has logged in; only successes add to it
	turnedAway        lru[string, turnedAway] // account → its last refusal because of an address; only shown
	unblocked         lru[string, unblocking]
	queued            int // attempts that wait for any reason, not at known addresses
	knownQueued       int // those at known addresses
	drawing           int // attempts that wait in a draw: at most maxQueued, and then one of each draw
}

// NewPasswordLimiter returns a PasswordLimiter that has counted nothing.
func NewPasswordLimiter(now time.Time) *PasswordLimiter {
	l := &PasswordLimiter{
		started:           now,
		accounts:          newLRU[string, budget](maxRemembered),
		addresses:         newLRU[netip.Addr, budget](maxRemembered),
		accountsAtAddress: newLRU[nameAt, budget](maxRemembered),
		guessed:           newLRU[string, guessedAccount](maxRemembered),
		known:             newLRU[nameAt, struct{}](maxRemembered),
		turnedAway:        newLRU[string, turnedAway](maxRemembered),
		unblocked:         newLRU[string, unblocking](maxRemembered),
	}
	l.guessed.inUse = func(g *guessedAccount) bool { return g.draw != nil }
	l.accounts.inUse, l.addresses.inUse, l.accountsAtAddress.inUse = (*budget).isInUse, (*budget).isInUse, (*budget).isInUse
	return l
}

// SetShare divides the limits from now on. Call it before any other method.
func (l *PasswordLimiter) SetShare(share Share) { l.share = share }

func (l *PasswordLimiter) accountLimits() limits {
	return limits{l.share.of(failuresBeforeDelay), failuresBeforeDelay, MaxGuesses}
}

func (l *PasswordLimiter) addressLimits() limits {
	return limits{l.share.of(AddressFailures), maxRunningPerAddress, AddressFailures}
}

func (l *PasswordLimiter) accountAtAddressLimits() limits {
	return limits{l.share.of(AccountFailures), AccountFailures, AccountFailures}
}

// An Attempt is a login whose password is being checked. Exactly one of Failed, Succeeded
// and Abandoned must be called when that is done.
type Attempt struct {
	limiter *PasswordLimiter
	account string
	from    netip.Addr
	known   bool // only the budget of the account at the address applies
	exempt  bool // the budget of the address does not apply; true if known is
	held    []heldBudget
	drawn   *guessedAccount // whose one look this is; nil if it is not drawn
}

type heldBudget struct {
	*budget
	limits
	name string // in an Error
}

// Enter returns when the password of an attempt may be checked. The error is an *Error, or
// that of ctx.
func (l *PasswordLimiter) Enter(ctx context.Context, account string, from netip.Addr) (*Attempt, error) {
	a := &Attempt{limiter: l, account: accountKey(account), from: network(from)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.takeAll(ctx, a); err != nil {
		a.giveBack(false)
		return nil, err
	}
	return a, nil
}

// Remember makes an address known for an account, after a login in an earlier life of the server.
func (l *PasswordLimiter) Remember(account string, from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.getOrAdd(nameAt{accountKey(account), network(from)})
}

// Place returns the name under which the attempt has a place of its own in queues, "" if it has none:
// the account's at a known address, and if it is the only one that is looked at for a time.
func (a *Attempt) Place() string {
	if a.known || a.drawn != nil {
		return a.account
	}
	return ""
}

// takeAll takes a part of each budget that applies. It holds mu, like everything it calls,
// and releases it only to wait.
func (l *PasswordLimiter) takeAll(ctx context.Context, a *Attempt) error {
	a.known = l.known.get(a.accountAtAddress()) != nil
	if a.exempt = a.known || l.isUnblocked(a.account); !a.exempt {
		if err := l.take(ctx, a, heldBudget{l.addresses.getOrAdd(a.from), l.addressLimits(), LimitAddress}); err != nil {
			l.remember(a, err)
			return err
		}
	}
	here := heldBudget{l.accountsAtAddress.getOrAdd(a.accountAtAddress()), l.accountAtAddressLimits(), LimitAccountAtAddress}
	if err := l.take(ctx, a, here); err != nil || a.known {
		return err
	}
	return l.takeAccount(ctx, a)
}

// take takes a part of one budget. It waits if the result depends on running attempts.
func (l *PasswordLimiter) take(ctx context.Context, a *Attempt, b heldBudget) error {
	if len(b.waiting) == 0 && b.available(b.limits, l.now()) > 0 {
		b.running++
		a.held = append(a.held, b)
		return nil
	}
	if wait := b.exhausted(b.limits, l.now()); wait > 0 {
		return &Error{wait, b.name}
	}
	if !l.mayWait(a) {
		return &Error{time.Second, LimitWaiting}
	}
	w := &waiter{outcome: make(chan struct{})}
	b.waiting = append(b.waiting, w)
	err := l.unlocked(a, func() error { return w.wait(ctx) })
	if w.granted {
		a.held = append(a.held, b)
		return err
	}
	b.removeWaiter(w)
	if err != nil {
		return err
	}
	return &Error{max(b.exhausted(b.limits, l.now()), time.Second), b.name}
}

// takeAccount waits out the delay of an account whose budget is exhausted. It refuses only
// when too many attempts wait.
func (l *PasswordLimiter) takeAccount(ctx context.Context, a *Attempt) error {
	b := heldBudget{l.accounts.getOrAdd(a.account), l.accountLimits(), LimitWaiting}
	if l.isGuessed(a.account, b.budget) {
		return l.takeDrawn(ctx, a, b)
	}
	if b.exhausted(b.limits, l.now()) == 0 {
		err := l.take(ctx, a, b)
		if err == nil || ctx.Err() != nil || b.exhausted(b.limits, l.now()) == 0 {
			return err
		}
		if l.isGuessed(a.account, b.budget) {
			return l.takeDrawn(ctx, a, b)
		}
	}
	delay, here := delayAfter(b.recent(l.now()), b.maxFailures), l.accountsAtAddress.getOrAdd(a.accountAtAddress())
	if b.running >= maxDelayed || here.delayed >= maxDelayedPerAddress || !l.mayWait(a) {
		return &Error{delay, LimitWaiting}
	}
	b.running++
	a.held = append(a.held, b)
	here.delayed++
	defer func() { here.delayed-- }()
	return l.unlocked(a, func() error { return sleep(ctx, delay) })
}

// remember keeps a refusal because of an address, for Account.
func (l *PasswordLimiter) remember(a *Attempt, err error) {
	if limited := (*Error)(nil); errors.As(err, &limited) && limited.Limit == LimitAddress {
		*l.turnedAway.getOrAdd(a.account) = turnedAway{a.from, l.now() + limited.RetryAfter}
	}
}

// mayWait gives each address at most as many places in the queue as it leaves free. So
// some places are always free for other addresses. At known addresses each account is
// bounded in the same way, because it may have many.
func (l *PasswordLimiter) mayWait(a *Attempt) bool {
	all, own := l.queueOf(a)
	return own.queued < maxQueued-*all
}

// queueOf returns the number of attempts in the queue of an attempt, and who of them is bounded.
func (l *PasswordLimiter) queueOf(a *Attempt) (all *int, own *budget) {
	if a.known {
		return &l.knownQueued, l.accounts.getOrAdd(a.account)
	}
	return &l.queued, l.addresses.getOrAdd(a.from)
}

// delayAfter returns how long an attempt waits after that many failures of its account, of which some are allowed.
func delayAfter(failures, allowed int) time.Duration {
	if failures < allowed {
		return 0
	}
	return min(FirstDelay<<min(failures-allowed, slowFailures), LongestDelay)
}

// unlocked runs fn without mu and counts a as waiting.
func (l *PasswordLimiter) unlocked(a *Attempt, fn func() error) error {
	all, own := l.queueOf(a)
	*all++
	own.queued++
	l.mu.Unlock()
	err := fn()
	l.mu.Lock()
	own.queued--
	*all--
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *PasswordLimiter) now() time.Duration { return time.Since(l.started) }

// Failed counts a wrong password. An attempt from a known address counts in all budgets,
// although only one of them limits it.
func (a *Attempt) Failed() {
	l := a.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	a.giveBack(true)
	if a.exempt {
		l.addresses.getOrAdd(a.from).fail(l.addressLimits(), l.now())
	}
	if a.known {
		l.accounts.getOrAdd(a.account).fail(l.accountLimits(), l.now())
	}
	l.countGuess(a.account)
}

// Succeeded makes the address known for the account.
func (a *Attempt) Succeeded() {
	a.limiter.mu.Lock()
	defer a.limiter.mu.Unlock()
	a.limiter.known.getOrAdd(a.accountAtAddress())
	a.giveBack(false)
}

// Abandoned counts nothing: the password was not checked, or the result is unknown. The next draw need
// not wait.
func (a *Attempt) Abandoned() {
	a.limiter.mu.Lock()
	defer a.limiter.mu.Unlock()
	a.giveBack(false)
	if a.drawn != nil {
		a.drawn.opens = a.limiter.now()
	}
}

// giveBack drops budgets that are empty afterwards. Otherwise attempts that were abandoned
// could push out the failures of others.
func (a *Attempt) giveBack(failed bool) {
	l := a.limiter
	for _, b := range a.held {
		b.finish(failed, b.limits, l.now())
	}
	l.addresses.dropIf(a.from, (*budget).empty)
	l.accountsAtAddress.dropIf(a.accountAtAddress(), (*budget).empty)
	l.accounts.dropIf(a.account, (*budget).empty)
}

func (a *Attempt) accountAtAddress() nameAt { return nameAt{a.account, a.from} }

// accountKey bounds the memory that a name takes. Long names do not share a budget, as
// those of clients do: a delay would then tell that no account has such a name.
func accountKey(account string) string {
	if len(account) <= maxNameBytes {
		return account
	}
	sum := sha256.Sum256([]byte(account))
	return string(sum[:])
}
