package limit

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"keymill/issuer/address"
)

// Limits of guesses at one account from addresses where it has not logged in before.
const (
	MaxGuesses  = 100                      // failures in GuessWindow, from all addresses
	GuessWindow = time.Hour                // after these, attempts are drawn
	DrawEvery   = GuessWindow / MaxGuesses // between two attempts that are checked
	DrawTime    = LongestDelay             // for which attempts can join a draw
)

const (
	maxDrawn        = 50   // networks that wait in one draw
	maxDrawNetworks = 1000 // that one draw tells apart
)

// A guessedAccount has failed MaxGuesses times in GuessWindow. From unknown addresses, one attempt is
// checked every 36 s:
//
//	  26 s refused      10 s in which attempts join       one is checked
//	├──────────────────┼─────────────────────────────────┤ 26 s refused …
//	                   the first one opens the draw
//
// A draw keeps one attempt of each network, chosen at random among those of the network. At its end it
// chooses one of the networks at random. So it does not matter how many addresses an attacker has in
// one network, nor how many attempts come from there. The other attempts are refused: those of a
// network that already waits at once.
type guessedAccount struct {
	budget               // of its fields only failures is used: the newest MaxGuesses
	opens  time.Duration // from when on the next draw may begin
	draw   *draw         // nil if there is none
}

// A draw is one look at an account.
type draw struct {
	ends    time.Duration
	seen    map[netip.Prefix]int     // network → its attempts so far
	waiting map[netip.Prefix]*waiter // network → the one of its attempts that waits
}

// maxGuesses is the share of MaxGuesses.
func (l *PasswordLimiter) maxGuesses() int { return l.share.of(MaxGuesses) }

// drawEvery is the time between two attempts that are checked: as many servers check one each.
func (l *PasswordLimiter) drawEvery() time.Duration {
	return GuessWindow / time.Duration(l.maxGuesses())
}

// isGuessed reports whether attempts at an account are drawn. Those that are being checked count as
// failures, so that parallel attempts cannot exceed the limit.
func (l *PasswordLimiter) isGuessed(account string, b *budget) bool {
	return l.guesses(account)+b.running >= l.maxGuesses()
}

// guesses returns how often an account has failed in the last GuessWindow. A guessedAccount counts for
// itself, because an attacker can push out the budget of an account with 10,000 invented names, but
// a guessedAccount only with as many accounts that have failed MaxGuesses times.
func (l *PasswordLimiter) guesses(account string) int {
	n := 0
	if b := l.accounts.get(account); b != nil {
		n = b.within(GuessWindow, l.now())
	}
	if g := l.guessed.get(account); g != nil {
		n = max(n, g.within(GuessWindow, l.now()))
	}
	return n
}

// countGuess counts a failure that the budget of the account has already counted.
func (l *PasswordLimiter) countGuess(account string) {
	if g := l.guessed.get(account); g != nil {
		g.fail(l.accountLimits(), l.now())
	} else if l.guesses(account) >= l.maxGuesses() {
		l.guessedAccount(account)
	}
}

// guessedAccount returns the record of an account, and adds it with the failures of its budget.
func (l *PasswordLimiter) guessedAccount(account string) *guessedAccount {
	g := l.guessed.getOrAdd(account)
	if g.failures == nil {
		g.failures = slices.Clone(l.accounts.getOrAdd(account).failures)
	}
	return g
}

// takeDrawn takes part in a draw. It returns nil if the attempt is drawn.
func (l *PasswordLimiter) takeDrawn(ctx context.Context, a *Attempt, b heldBudget) error {
	g := l.guessedAccount(a.account)
	if g.draw == nil {
		if wait := g.opens - l.now(); wait > 0 {
			return &Error{wait, LimitGuesses}
		}
		l.openDraw(g)
	}
	d, network := g.draw, address.Network(a.from)
	refused := &Error{d.ends + l.drawEvery() - DrawTime - l.now(), LimitGuesses}
	w := l.join(d, network)
	if w == nil {
		return refused
	}
	l.mu.Unlock()
	err := w.wait(ctx)
	l.mu.Lock()
	l.leave(d, network, w)
	switch {
	case err != nil && w.granted:
		g.opens = l.now() // there is no look: the next draw need not wait
		return err
	case err != nil:
		return err
	case !w.granted:
		return &Error{max(time.Second, d.ends+l.drawEvery()-DrawTime-l.now()), LimitGuesses}
	}
	b.budget = l.accounts.getOrAdd(a.account) // it may have been forgotten during the wait
	b.running++
	a.held, a.drawn = append(a.held, b), g
	return nil
}

// openDraw begins a draw that ends by itself.
func (l *PasswordLimiter) openDraw(g *guessedAccount) {
	d := &draw{ends: l.now() + DrawTime, seen: map[netip.Prefix]int{}, waiting: map[netip.Prefix]*waiter{}}
	g.draw = d
	time.AfterFunc(DrawTime, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		g.draw = nil
		networks := make([]netip.Prefix, 0, len(d.waiting))
		for network := range d.waiting {
			networks = append(networks, network)
		}
		if len(networks) == 0 {
			return // all have given up: the next draw may begin at once
		}
		g.opens = l.now() + l.drawEvery() - DrawTime
		d.waiting[networks[rand.IntN(len(networks))]].granted = true
		for _, w := range d.waiting {
			close(w.outcome)
		}
	})
}

// join returns nil if an attempt is refused at once. It may refuse one that waits in its place.
func (l *PasswordLimiter) join(d *draw, network netip.Prefix) *waiter {
	attempts := d.seen[network] + 1
	if attempts > 1 || len(d.seen) < maxDrawNetworks {
		d.seen[network] = attempts
	}
	old := d.waiting[network]
	switch {
	case old != nil && rand.IntN(attempts) > 0:
		return nil
	case old != nil:
		close(old.outcome)
	case !l.makeRoom(d, attempts == 1):
		return nil
	default:
		l.drawing++
	}
	w := &waiter{outcome: make(chan struct{})}
	d.waiting[network] = w
	return w
}

// makeRoom reports whether one more network may wait. The first of a draw always may: otherwise the draws
// of other accounts, which an attacker can fill, would keep all networks out of this one. If there is no
// room, a network that is new in the draw takes the place of another with such a chance that all have the
// same. Memory stays bounded: beyond maxQueued only one attempt of each draw waits, and each account that has
// a draw has cost its attackers MaxGuesses hashes within an hour.
func (l *PasswordLimiter) makeRoom(d *draw, isNew bool) bool {
	room := len(d.waiting) == 0 || len(d.waiting) < min(maxDrawn, maxQueued-l.drawing)
	if room || !isNew || rand.IntN(len(d.seen)) >= len(d.waiting) {
		return room
	}
	at := rand.IntN(len(d.waiting))
	for network, w := range d.waiting {
		if at--; at < 0 {
			close(w.outcome)
			l.leave(d, network, w)
			break
		}
	}
	return true
}

// leave ends the wait of w, if another attempt has not taken its place before.
func (l *PasswordLimiter) leave(d *draw, network netip.Prefix, w *waiter) {
	if d.waiting[network] == w {
		delete(d.waiting, network)
		l.drawing--
	}
}
