package limit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// in6 returns an address of the nth /64 of 2001:db8:<site>::/48.
func in6(site, n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(site >> 8), byte(site), byte(n >> 8), byte(n), 15: 1})
}

// in4 returns the nth address of 198.<18+site>.0.0/24 and its successors.
func in4(site, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, byte(18 + site>>8), byte(site), byte(n)})
}

// guess makes MaxGuesses failures of an account, each from a network of its own, and waits until the
// delay of the account is over.
func (l *PasswordLimiter) guess(t *testing.T, account string) {
	t.Helper()
	for n := range MaxGuesses {
		l.try(t, account, in4(1000+n, 1), false)
	}
}

// attack lets each address try again as soon as it may, until ctx ends. looks gets the times at which a
// password was checked.
func (l *PasswordLimiter) attack(ctx context.Context, account string, from []netip.Addr, looks func()) *sync.WaitGroup {
	var all sync.WaitGroup
	for _, addr := range from {
		all.Go(func() {
			for ctx.Err() == nil {
				a, err := l.Enter(ctx, account, addr)
				wait := time.Millisecond
				if limited := (*Error)(nil); errors.As(err, &limited) {
					wait = limited.RetryAfter
				} else if err == nil {
					looks()
					time.Sleep(hashing)
					a.Failed()
				}
				select {
				case <-ctx.Done():
				case <-time.After(wait):
				}
			}
		})
	}
	return &all
}

// TestGuessesAtAnAccountAreBoundedOverAllAddresses, however many an attacker has: 100 in the first hour
// and then one every 36 s.
//
// R99, I29.
func TestGuessesAtAnAccountAreBoundedOverAllAddresses(t *testing.T) {
	for what, from := range map[string]func(n int) netip.Addr{
		"one /56":           func(n int) netip.Addr { return in6(1, n) },
		"many /48":          func(n int) netip.Addr { return in6(n, 1) },
		"two /24":           func(n int) netip.Addr { return in4(n%2, n) },
		"many IPv4 /24":     func(n int) netip.Addr { return in4(n, 1) },
		"IPv4 and IPv6":     func(n int) netip.Addr { return []netip.Addr{in4(n, 1), in6(n, 1)}[n%2] },
		"ten of each of 25": func(n int) netip.Addr { return in6(n%25, n) },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := NewPasswordLimiter(time.Now())
			var addresses []netip.Addr
			for n := range 128 {
				addresses = append(addresses, from(n))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*GuessWindow)
			defer cancel()
			var mu sync.Mutex
			var looks []time.Time
			l.attack(ctx, "alice", addresses, func() {
				mu.Lock()
				defer mu.Unlock()
				looks = append(looks, time.Now())
			}).Wait()
			for n := MaxGuesses + 1; n < len(looks); n++ {
				if d := looks[n].Sub(looks[n-1]); d < DrawEvery-time.Second {
					t.Fatalf("%s: %v between looks %d and %d", what, d, n-1, n)
				}
			}
			if len(looks) < 3*MaxGuesses/2 || len(looks) > 3*MaxGuesses+5 {
				t.Errorf("%s: %d passwords were checked in two hours", what, len(looks))
			}
			l.idle(t)
		})
	}
}

// TestAnAttackerWithManyAddressesOfOneNetworkDoesNotBeatAUserElsewhere: each network has the same
// chance in a draw. Half of 100 draws is 50; fewer than 20 would be a chance of one in a billion.
//
// R99, I29.
func TestAnAttackerWithManyAddressesOfOneNetworkDoesNotBeatAUserElsewhere(t *testing.T) {
	user4, user6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:ffff::1")
	for _, tt := range []struct {
		what     string
		attacker func(n int) netip.Addr
		parallel int
		user     netip.Addr
		least    int // of 100
		most     int
	}{
		{"a /56 against IPv4", func(n int) netip.Addr { return in6(1, n) }, 200, user4, 20, 80},
		{"a /56 against IPv6", func(n int) netip.Addr { return in6(1, n) }, 200, user6, 20, 80},
		{"a /24 against IPv4", func(n int) netip.Addr { return in4(1, n) }, 200, user4, 20, 80},
		{"four networks", func(n int) netip.Addr { return in6(n%4, n) }, 200, user4, 3, 50},
		{"the user's own network", func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + n)}) }, 6, user4, 2, 50},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := NewPasswordLimiter(time.Now())
			l.guess(t, "alice")
			var addresses []netip.Addr
			for n := range tt.parallel {
				addresses = append(addresses, tt.attacker(n))
			}
			ctx, cancel := context.WithCancel(t.Context())
			var looks atomic.Int64
			attackers := l.attack(ctx, "alice", addresses, func() { looks.Add(1) })
			mine := 0
			for mine+int(looks.Load()) < 100 {
				a, err := l.Enter(t.Context(), "alice", tt.user)
				var limited *Error
				switch {
				case errors.As(err, &limited):
					time.Sleep(limited.RetryAfter + time.Second) // who comes last has the same chance
				case err != nil:
					t.Fatal(err)
				default:
					mine++
					a.Failed()
					time.Sleep(DrawEvery - DrawTime + time.Second)
				}
			}
			cancel()
			attackers.Wait()
			if mine < tt.least || mine > tt.most {
				t.Errorf("%s: the user had %d of %d looks", tt.what, mine, mine+int(looks.Load()))
			}
			l.idle(t)
		})
	}
}

// TestAKnownAddressIsNeverDrawn, also if the address was known before a restart.
//
// R99, I29.
func TestAKnownAddressIsNeverDrawn(t *testing.T) {
	for what, know := range map[string]func(l *PasswordLimiter, t *testing.T, from netip.Addr){
		"a login":                  func(l *PasswordLimiter, t *testing.T, from netip.Addr) { l.try(t, "alice", from, true) },
		"a login before a restart": func(l *PasswordLimiter, t *testing.T, from netip.Addr) { l.Remember("alice", from) },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := NewPasswordLimiter(time.Now())
			know(l, t, atHome)
			know(l, t, in6(1, 7))
			l.guess(t, "alice")
			ctx, cancel := context.WithCancel(t.Context())
			var attackers []netip.Addr
			for n := range 500 {
				attackers = append(attackers, in6(1, 100+n), in4(n, 1))
			}
			all := l.attack(ctx, "alice", attackers, func() {})
			for range 20 {
				for _, from := range []netip.Addr{atHome, in6(1, 7), in6(1, 7).Next()} {
					if waited, retry := l.try(t, "alice", from, true); waited != 0 || retry != 0 {
						t.Errorf("%s: from %v waited %v, RetryAfter %v", what, from, waited, retry)
					}
				}
				time.Sleep(7 * time.Second)
			}
			if _, err := l.Enter(ctx, "bob", atCafe); err != nil {
				t.Errorf("%s: another account: %v", what, err)
			}
			cancel()
			all.Wait()
		})
	}
}

// TestARefusedGuessIsToldWhenItCanTakePart: RetryAfter leads into a draw, and a draw has no other
// refusal before its end.
func TestARefusedGuessIsToldWhenItCanTakePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		l.guess(t, "alice")
		waited, retry := l.try(t, "alice", atCafe, false) // alone in its draw
		if waited != DrawTime || retry != 0 {
			t.Errorf("the first waited %v, RetryAfter %v", waited, retry)
		}
		waited, retry = l.try(t, "alice", atHome, false)
		if waited != 0 || retry != DrawEvery-DrawTime-hashing {
			t.Errorf("after a look: waited %v, RetryAfter %v", waited, retry)
		}
		time.Sleep(retry)
		began := time.Now()
		var looks atomic.Int64
		var all sync.WaitGroup
		for _, from := range []netip.Addr{atHome, in6(1, 1), in6(1, 2), in6(2, 1), in4(1, 1)} {
			all.Go(func() {
				waited, retry := l.try(t, "alice", from, true)
				switch back := time.Since(began) + retry; {
				case retry == 0 && waited == DrawTime:
					looks.Add(1)
				case back < DrawEvery || back > DrawEvery+time.Second:
					t.Errorf("%v: waited %v, RetryAfter %v", from, waited, retry)
				}
			})
		}
		all.Wait()
		if looks.Load() != 1 {
			t.Errorf("%d looks in one draw", looks.Load())
		}
	})
}

// TestADrawEndsWithALook: attempts whose clients hang up, and a look that checks no password, do not use
// it up.
func TestADrawEndsWithALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		l.guess(t, "alice")
		ctx, hangUp := context.WithCancel(t.Context())
		gone := l.attack(ctx, "alice", []netip.Addr{in6(1, 1), in6(2, 1), in4(1, 1)}, func() { t.Error("a client that hung up was drawn") })
		time.Sleep(time.Second)
		hangUp()
		gone.Wait()
		if waited, retry := l.try(t, "alice", atCafe, false); retry != 0 || waited != DrawTime-time.Second {
			t.Errorf("after clients hung up: waited %v, RetryAfter %v", waited, retry)
		}
		time.Sleep(DrawEvery)
		a, err := l.Enter(t.Context(), "alice", atCafe)
		if err != nil {
			t.Fatal(err)
		}
		a.Abandoned()
		if waited, retry := l.try(t, "alice", atHome, true); retry != 0 || waited != DrawTime {
			t.Errorf("after a look without a password: waited %v, RetryAfter %v", waited, retry)
		}
		ctx, hangUp = context.WithTimeout(t.Context(), time.Second)
		defer hangUp()
		time.Sleep(DrawEvery)
		if _, err := l.Enter(ctx, "alice", atCafe); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(DrawTime)
		l.idle(t)
	})
}

// TestInventedNamesDoNotResetGuesses: 10,000 names push out the budget of an account, but not that it was
// guessed too often.
//
// I29.
func TestInventedNamesDoNotResetGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		l.guess(t, "alice")
		for n := range maxRemembered + 500 {
			a, err := l.Enter(t.Context(), fmt.Sprint("invented", n), in6(n, 1))
			if err != nil {
				t.Fatal(err)
			}
			a.Failed()
		}
		if l.accounts.get("alice") != nil {
			t.Fatal("the budget was not pushed out: the test shows nothing")
		}
		if waited, retry := l.try(t, "alice", atCafe, false); waited != DrawTime || retry != 0 {
			t.Errorf("waited %v, RetryAfter %v", waited, retry)
		}
		if _, retry := l.try(t, "alice", atHome, false); retry == 0 {
			t.Error("a second look at once")
		}
	})
}

// TestDrawsEnd an hour after the failures, or when an administrator lifts them.
func TestDrawsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		began := time.Now()
		l.guess(t, "alice")
		if d := l.Account("alice").Drawn.Sub(began); d < GuessWindow || d > GuessWindow+time.Minute {
			t.Errorf("drawn for %v after the first failure", d)
		}
		l.try(t, "alice", atCafe, false)
		l.Unblock("alice", time.Now(), 0)
		if shown := l.Account("alice"); !shown.Drawn.IsZero() || shown.Failures != 0 {
			t.Errorf("after Unblock: %+v", shown)
		}
		if waited, retry := l.try(t, "alice", atHome, false); waited != 0 || retry != 0 {
			t.Errorf("after Unblock: waited %v, RetryAfter %v", waited, retry)
		}
		l.guess(t, "bob")
		time.Sleep(time.Until(l.Account("bob").Drawn))
		if waited, retry := l.try(t, "bob", atHome, false); waited != 0 || retry != 0 {
			t.Errorf("after an hour: waited %v, RetryAfter %v", waited, retry)
		}
	})
}

// TestAKnownAddressHasAPlaceInTheQueue although attempts from other addresses fill it: of 12 parallel
// logins at a known address ten are checked at once, and two wait.
//
// I29.
func TestAKnownAddressHasAPlaceInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		for _, user := range []string{"alice", "bob", "carol", "mallory"} {
			l.Remember(user, atHome)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for n := range 20 * maxQueued {
			go func() {
				if a, err := l.Enter(ctx, fmt.Sprint("user", n), host(n/50)); err == nil {
					<-ctx.Done()
					a.Abandoned()
				}
			}()
		}
		for range 2 * maxQueued { // an account of the attacker's own
			go func() {
				if a, err := l.Enter(ctx, "mallory", atHome); err == nil {
					<-ctx.Done()
					a.Abandoned()
				}
			}()
		}
		synctest.Wait()
		l.mu.Lock()
		if l.queued < maxQueued/2 || l.knownQueued > maxQueued {
			t.Errorf("%d and %d wait", l.queued, l.knownQueued)
		}
		l.mu.Unlock()
		for _, user := range []string{"alice", "bob", "carol"} {
			var all sync.WaitGroup
			for range 12 {
				all.Go(func() {
					if waited, retry := l.try(t, user, atHome, true); retry != 0 || waited > hashing {
						t.Errorf("%s waited %v, RetryAfter %v", user, waited, retry)
					}
				})
			}
			all.Wait()
		}
		cancel()
		l.idle(t)
	})
}

// TestAPlaceBelongsToKnownAddressesAndToLooks.
func TestAPlaceBelongsToKnownAddressesAndToLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		place := func(account string, from netip.Addr) string {
			a, err := l.Enter(t.Context(), account, from)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Abandoned()
			return a.Place()
		}
		l.Remember("alice", atHome)
		l.Remember("carol", atHome)
		l.guess(t, "bob")
		l.guess(t, "?no user has this name")
		for _, tt := range []struct {
			account string
			from    netip.Addr
			want    string
		}{
			{"alice", atHome, "alice"}, {"alice", atCafe, ""}, {"dave", atHome, ""}, {"bob", atCafe, "bob"},
			{"?no user has this name", atCafe, "?no user has this name"},
		} {
			if got := place(tt.account, tt.from); got != tt.want {
				t.Errorf("%s from %v: %q", tt.account, tt.from, got)
			}
		}
		l.Forget("alice")
		if got := place("alice", atHome); got != "" {
			t.Errorf("after Forget: %q", got)
		}
		if got := place("carol", atHome); got != "carol" {
			t.Errorf("another account after Forget: %q", got)
		}
	})
}
