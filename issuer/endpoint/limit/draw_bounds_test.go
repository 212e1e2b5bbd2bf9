package limit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// drawAll lets attempts from networks of their own join the draws of all accounts, one account after the
// other, until ctx ends.
func (l *PasswordLimiter) drawAll(ctx context.Context, accounts []string, networks int) {
	for _, account := range accounts {
		for n := range networks {
			go func() {
				if a, err := l.Enter(ctx, account, in6(n, 1)); err == nil {
					a.Abandoned()
				}
			}()
		}
		synctest.Wait()
	}
}

// guessAll makes MaxGuesses failures of each account and of some invented ones, which it returns.
func (l *PasswordLimiter) guessAll(t *testing.T, count int, accounts ...string) (invented []string) {
	t.Helper()
	for n := range count {
		invented = append(invented, fmt.Sprint("user", n))
	}
	var all sync.WaitGroup
	for _, account := range append(accounts, invented...) {
		all.Go(func() { l.guess(t, account) })
	}
	all.Wait()
	return invented
}

// TestDrawsAreBounded: neither networks nor accounts make the draws grow, and a network that comes
// last has the same chance as the first.
func TestDrawsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		accounts := l.guessAll(t, 30)
		ctx, hangUp := context.WithCancel(t.Context())
		l.drawAll(ctx, accounts, 100)
		for n := range maxDrawNetworks + 500 { // chances of 1 in 20 and less that none of them waits multiply to nothing
			go l.Enter(ctx, accounts[0], in4(n, 1))
		}
		synctest.Wait()
		l.mu.Lock()
		d := l.guessed.get(accounts[0]).draw
		if len(d.waiting) > maxDrawn || len(d.seen) > maxDrawNetworks || l.drawing < maxQueued || l.drawing > maxQueued+len(accounts) {
			t.Errorf("%d networks wait for one account, %d are known; %d attempts wait for all", len(d.waiting), len(d.seen), l.drawing)
		}
		late := 0
		for network := range d.waiting {
			if network.Addr().Is4() {
				late++
			}
		}
		if late == 0 {
			t.Error("none of the networks that came later waits")
		}
		l.mu.Unlock()
		hangUp()
		time.Sleep(DrawTime)
		l.idle(t)
	})
}

// TestDrawsOfOthersKeepNoAccountOut: an attacker with a /42 fills all places with the draws of invented
// accounts. Attempts at other accounts are checked as if they were alone, at an account that exists, at
// one that does not, from IPv4, from IPv6 and from a network of the attacker; and so is one that comes
// after another has hung up.
//
// I29.
func TestDrawsOfOthersKeepNoAccountOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		victims := map[string]netip.Addr{"=7": atCafe, "?carol": atHome, "=8": in6(9999, 1), "=9": in6(1, 2)}
		invented := l.guessAll(t, 40, slices.Collect(maps.Keys(victims))...)
		ctx, hangUp := context.WithCancel(t.Context())
		l.drawAll(ctx, invented, 64)
		if l.drawing < maxQueued {
			t.Fatalf("%d attempts wait: the test shows nothing", l.drawing)
		}
		gone, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := l.Enter(gone, "=7", in4(1, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		var all sync.WaitGroup
		for account, from := range victims {
			all.Go(func() {
				if waited, retry := l.try(t, account, from, false); retry != 0 || waited == 0 || waited > DrawTime {
					t.Errorf("%s from %v: waited %v, RetryAfter %v", account, from, waited, retry)
				}
			})
		}
		all.Wait()
		hangUp()
		time.Sleep(DrawTime)
		l.idle(t)
	})
}
