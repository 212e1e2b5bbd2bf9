package endpoint

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// How often a password may be wrong in a window, see failureWindow. Only failures count.
const (
	accountFailures = 10 // of one account from one address
	networkFailures = 100
	networkAtOnce   = 20 // attempts of one address that are looked at, or sit out a delay
	promptFailures  = 10 // of one account from anywhere, until attempts have to wait
	firstDelay      = time.Second
	longestDelay    = 10 * time.Second
	countedFailures = promptFailures + 4 // more than that do not lengthen the delay
	maxSleeping     = 50                 // attempts of one account that sit out a delay
	maxSleepingHere = 2                  // those of them from one address
	maxPatient      = 1000               // attempts that wait, for whatever reason
)

var (
	pairRow    = row{accountFailures, accountFailures, accountFailures}
	networkRow = row{networkFailures, networkAtOnce, networkFailures}
	accountRow = row{promptFailures, promptFailures, countedFailures}
)

// A passwordGuard slows down guessing, and unlike guard it is exact: an attempt takes its
// places before a password is looked at.
//
//	address                  100 failures, then refused       (IPv6: a /64)
//	account at an address    10 failures, then refused
//	account from anywhere    10 failures, then a delay        1 s, 2 s, 4 s, 8 s, 10 s, 10 s …
//
// The account is what issuer.Account says, so that no spelling of a name gets a count of
// its own, and both doors share the counts. A few addresses cannot shut out somebody else,
// only make a login from a new address slow: one address has 20 attempts looked at at a
// time, two sit out the delay of one account, and of those that wait it may be as many as
// there is still room for others. An address where the account has logged in before is
// held to the second row only.
//
// Places are taken in the order of the rows and given back together, so that nobody waits
// in a circle. It remembers the newest 10,000 of each row that failed, and the newest
// 10,000 welcomes apart from them: names that an address makes up cost nobody his welcome,
// and no more rows than the address may have failures.
type passwordGuard struct {
	born     time.Time
	mu       sync.Mutex
	pairs    lru[pair, budget] // owned by mu, like the rest
	networks lru[netip.Addr, budget]
	accounts lru[string, budget]
	welcome  lru[pair, struct{}] // where somebody has succeeded: only successes add to it
	patient  int                 // attempts that wait
}

func newPasswordGuard(now time.Time) *passwordGuard {
	g := &passwordGuard{
		born: now, pairs: newLRU[pair, budget](maxRemembered), welcome: newLRU[pair, struct{}](maxRemembered),
		networks: newLRU[netip.Addr, budget](maxRemembered), accounts: newLRU[string, budget](maxRemembered),
	}
	g.pairs.inUse, g.networks.inUse, g.accounts.inUse = (*budget).inUse, (*budget).inUse, (*budget).inUse
	return g
}

// A place is what an attempt holds while a password is looked at.
type place struct {
	guard   *passwordGuard
	account string
	from    netip.Addr
	exempt  bool // from all rows but the second
	held    []heldBudget
}

type heldBudget struct {
	*budget
	row
}

// enter returns once an attempt may be looked at. The error is a refusal with a time to
// come back, or that of ctx.
func (g *passwordGuard) enter(ctx context.Context, account string, from netip.Addr) (*place, error) {
	p := &place{guard: g, account: accountKey(account), from: from}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.fill(ctx, p)
	if err != nil {
		p.giveBack(false)
		return nil, err
	}
	return p, nil
}

// fill takes the places. Like everything it calls, it holds mu and lets go of it to wait.
func (g *passwordGuard) fill(ctx context.Context, p *place) error {
	p.exempt = g.welcome.get(p.pair()) != nil
	if !p.exempt {
		if err := g.take(ctx, p, heldBudget{g.networks.getOrAdd(p.from), networkRow}); err != nil {
			return err
		}
	}
	if err := g.take(ctx, p, heldBudget{g.pairs.getOrAdd(p.pair()), pairRow}); err != nil || p.exempt {
		return err
	}
	return g.takeAccount(ctx, p)
}

// take takes a place, and waits for one if that depends on attempts under way.
func (g *passwordGuard) take(ctx context.Context, p *place, b heldBudget) error {
	if len(b.waiting) == 0 && b.free(b.row, g.now()) > 0 {
		b.underWay++
		p.held = append(p.held, b)
		return nil
	}
	if wait := b.exhausted(b.row, g.now()); wait > 0 {
		return tooManyFailures(wait)
	}
	if !g.mayWait(p) {
		return tooManyFailures(time.Second)
	}
	w := &waiter{outcome: make(chan struct{})}
	b.waiting = append(b.waiting, w)
	err := g.unlocked(p, func() error { return w.wait(ctx) })
	if w.granted {
		p.held = append(p.held, b)
		return err
	}
	b.leave(w)
	if err != nil {
		return err
	}
	return tooManyFailures(max(b.exhausted(b.row, g.now()), time.Second))
}

// takeAccount never refuses for failures; it sits out the delay.
func (g *passwordGuard) takeAccount(ctx context.Context, p *place) error {
	b := heldBudget{g.accounts.getOrAdd(p.account), accountRow}
	if b.exhausted(b.row, g.now()) == 0 {
		err := g.take(ctx, p, b)
		if err == nil || ctx.Err() != nil || b.exhausted(b.row, g.now()) == 0 {
			return err
		}
	}
	delay, here := delayAfter(b.recent(g.now())), g.pairs.getOrAdd(p.pair())
	if b.underWay >= maxSleeping || here.asleep >= maxSleepingHere || !g.mayWait(p) {
		return tooManyFailures(delay)
	}
	b.underWay++
	p.held = append(p.held, b)
	here.asleep++
	defer func() { here.asleep-- }()
	return g.unlocked(p, func() error { return sleep(ctx, delay) })
}

// mayWait leaves every other address as much room as this one takes: however many wait
// from a few of them, there is some left.
func (g *passwordGuard) mayWait(p *place) bool {
	return g.networks.getOrAdd(p.from).patient < maxPatient-g.patient
}

// delayAfter says how long an attempt waits after so many failures of its account.
func delayAfter(failures int) time.Duration {
	if failures < promptFailures {
		return 0
	}
	return min(firstDelay<<min(failures-promptFailures, 10), longestDelay)
}

// unlocked runs fn without mu and counts p among those who wait.
func (g *passwordGuard) unlocked(p *place, fn func() error) error {
	from := g.networks.getOrAdd(p.from)
	g.patient++
	from.patient++
	g.mu.Unlock()
	err := fn()
	g.mu.Lock()
	from.patient--
	g.patient--
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

func (g *passwordGuard) now() time.Duration { return time.Since(g.born) }

// failed: the password was wrong. An attempt that was exempt from a row counts in it.
func (p *place) failed() {
	g := p.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	p.giveBack(true)
	if p.exempt {
		g.networks.getOrAdd(p.from).fail(networkRow, g.now())
		g.accounts.getOrAdd(p.account).fail(accountRow, g.now())
	}
}

// succeeded makes the account welcome at this address.
func (p *place) succeeded() {
	p.guard.mu.Lock()
	defer p.guard.mu.Unlock()
	p.guard.welcome.getOrAdd(p.pair())
	p.giveBack(false)
}

// abandoned: nobody looked at the password, or nobody knows what came of it.
func (p *place) abandoned() {
	p.guard.mu.Lock()
	defer p.guard.mu.Unlock()
	p.giveBack(false)
}

// giveBack leaves no row behind that says nothing, or attempts that nobody looked at would
// push out what others have failed.
func (p *place) giveBack(failed bool) {
	g := p.guard
	for _, b := range p.held {
		b.settle(failed, b.row, g.now())
	}
	g.networks.drop(p.from, (*budget).blank)
	g.pairs.drop(p.pair(), (*budget).blank)
	g.accounts.drop(p.account, (*budget).blank)
}

func (p *place) pair() pair { return pair{p.account, p.from} }

// accountKey bounds what a name costs. Names that long share no entry, or a delay would
// tell that nobody has them.
func accountKey(account string) string {
	if len(account) <= maxGuardedBytes {
		return account
	}
	sum := sha256.Sum256([]byte(account))
	return string(sum[:])
}
