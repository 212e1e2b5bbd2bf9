package limit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	atHome = netip.MustParseAddr("192.0.2.1")
	atCafe = netip.MustParseAddr("198.51.100.7")
)

// hashing is how long the check of a password takes in these tests.
const hashing = 50 * time.Millisecond

// try makes one attempt. It returns how long Enter took, and the RetryAfter of a refusal.
func (l *PasswordLimiter) try(t *testing.T, account string, from netip.Addr, right bool) (waited, retry time.Duration) {
	t.Helper()
	before := time.Now()
	a, err := l.Enter(t.Context(), account, from)
	waited = time.Since(before)
	if err != nil {
		var limited *Error
		if !errors.As(err, &limited) || limited.RetryAfter <= 0 {
			t.Fatalf("got error %v, want an *Error with a time", err)
		}
		return waited, limited.RetryAfter
	}
	time.Sleep(hashing)
	if right {
		a.Succeeded()
	} else {
		a.Failed()
	}
	return waited, 0
}

func host(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(n >> 8), byte(n)}) }

// R99.
func TestAnAccountHasTenFailuresAtAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		for range AccountFailures {
			if _, retry := l.try(t, "alice", atHome, false); retry != 0 {
				t.Fatal("an attempt within the limit was refused")
			}
		}
		_, retry := l.try(t, "alice", atHome, true)
		if retry < Window-time.Second || retry > Window {
			t.Errorf("RetryAfter is %v", retry)
		}
		if _, retry := l.try(t, "bob", atHome, true); retry != 0 {
			t.Error("another account at the address was refused")
		}
		if waited, retry := l.try(t, "alice", atCafe, true); retry != 0 || waited != FirstDelay {
			t.Errorf("at another address: waited %v, RetryAfter %v", waited, retry)
		}
		time.Sleep(retry)
		if _, retry := l.try(t, "alice", atHome, true); retry != 0 {
			t.Errorf("after the wait: RetryAfter %v", retry)
		}
	})
}

// TestNoWindowHoldsMoreFailuresThanTheLimit tests the first window and all that follow.
//
// R99.
func TestNoWindowHoldsMoreFailuresThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		var failures []time.Time
		for end := time.Now().Add(4 * Window); time.Now().Before(end); {
			_, retry := l.try(t, "alice", atHome, false)
			if retry == 0 {
				failures = append(failures, time.Now())
			}
			time.Sleep(max(retry/3, time.Second))
		}
		for n := AccountFailures; n < len(failures); n++ {
			if failures[n].Sub(failures[n-AccountFailures]) < Window {
				t.Fatalf("failures %d to %d lie within one window", n-AccountFailures, n)
			}
		}
		if len(failures) < 4*AccountFailures-1 {
			t.Errorf("%d failures were admitted in four windows, so attempts are refused for too long", len(failures))
		}
	})
}

// R99.
func TestParallelAttemptsDoNotExceedTheLimits(t *testing.T) {
	for _, tt := range []struct {
		what    string
		account func(n int) string
		from    func(n int) netip.Addr
		limit   int
	}{
		{"account at an address", func(int) string { return "alice" }, func(int) netip.Addr { return atHome }, AccountFailures},
		{"address", func(n int) string { return fmt.Sprint("user", n) }, func(int) netip.Addr { return atHome }, AddressFailures},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := NewPasswordLimiter(time.Now())
			var checked, refused atomic.Int64
			var all sync.WaitGroup
			for n := range 500 {
				all.Go(func() {
					if _, retry := l.try(t, tt.account(n), tt.from(n), false); retry > 0 {
						refused.Add(1)
					} else {
						checked.Add(1)
					}
				})
			}
			all.Wait()
			if int(checked.Load()) != tt.limit || int(refused.Load()) != 500-tt.limit {
				t.Errorf("%s: %d checked, %d refused", tt.what, checked.Load(), refused.Load())
			}
			l.idle(t)
		})
	}
}

// idle fails if an attempt is still counted as running or waiting.
func (l *PasswordLimiter) idle(t *testing.T) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.accountsAtAddress.entries {
		if b := &e.Value.(*lruEntry[nameAt, budget]).value; b.isInUse() {
			t.Errorf("an account at an address is in use: %d running, %d waiting", b.running, len(b.waiting))
		}
	}
	for _, e := range l.addresses.entries {
		if b := &e.Value.(*lruEntry[netip.Addr, budget]).value; b.isInUse() {
			t.Errorf("an address is in use: %d running, %d waiting", b.running, len(b.waiting))
		}
	}
	for _, e := range l.accounts.entries {
		if b := &e.Value.(*lruEntry[string, budget]).value; b.isInUse() {
			t.Errorf("an account is in use: %d running, %d waiting", b.running, len(b.waiting))
		}
	}
	if l.queued != 0 || l.knownQueued != 0 || l.drawing != 0 {
		t.Errorf("%d, %d and %d attempts are counted as waiting", l.queued, l.knownQueued, l.drawing)
	}
}

// R99, I29.
func TestFailuresFromAllAddressesDelayAnAccountAndNeverLockIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		for n, want := range []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 10, 10, 10, 10, 10, 10} {
			waited, retry := l.try(t, "alice", host(n), false)
			if waited != want*time.Second || retry != 0 {
				t.Errorf("after %d failures: waited %v, RetryAfter %v", n, waited, retry)
			}
		}
		if waited, _ := l.try(t, "bob", host(1), true); waited != 0 {
			t.Errorf("another account waited %v", waited)
		}
		time.Sleep(Window)
		if waited, _ := l.try(t, "alice", host(1), true); waited != 0 {
			t.Errorf("after the window: waited %v", waited)
		}
	})
}

// R99, I29.
func TestParallelAttemptsFromManyAddressesAreDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		var prompt, slow, refused atomic.Int64
		var all sync.WaitGroup
		for n := range 300 {
			all.Go(func() {
				waited, retry := l.try(t, "alice", host(n), false)
				switch {
				case retry > 0:
					refused.Add(1)
				case waited < FirstDelay:
					prompt.Add(1)
				default:
					slow.Add(1)
				}
			})
		}
		all.Wait()
		if prompt.Load() != failuresBeforeDelay || slow.Load() > maxDelayed || refused.Load() != 300-prompt.Load()-slow.Load() || slow.Load() == 0 {
			t.Errorf("%d checked at once, %d after a delay, %d refused", prompt.Load(), slow.Load(), refused.Load())
		}
		l.idle(t)
	})
}

// R99, I29.
func TestFailuresElsewhereDoNotLimitAKnownAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		l.try(t, "alice", atHome, true)
		for n := range 40 {
			l.try(t, "alice", host(n), false) // her account, from many addresses
		}
		for n := range AddressFailures {
			l.try(t, fmt.Sprint("user", n), atHome, false) // other accounts, at her address
		}
		if waited, retry := l.try(t, "alice", atHome, true); waited != 0 || retry != 0 {
			t.Errorf("at the known address: waited %v, RetryAfter %v", waited, retry)
		}
		if _, retry := l.try(t, "bob", atHome, true); retry == 0 {
			t.Error("another account at her address was not refused")
		}
		if waited, _ := l.try(t, "alice", atCafe, true); waited == 0 {
			t.Error("an attempt from a new address was not delayed")
		}
		for range AccountFailures {
			l.try(t, "alice", atHome, false)
		}
		if _, retry := l.try(t, "alice", atHome, true); retry == 0 {
			t.Error("her own failures at the known address do not limit her")
		}
		time.Sleep(Window)
		for range AccountFailures {
			l.try(t, "alice", atHome, false)
		}
		if waited, _ := l.try(t, "alice", host(1000), false); waited != FirstDelay {
			t.Errorf("at a new address: waited %v, so failures at the known address were not counted", waited)
		}
	})
}

func TestSuccessfulLoginsAreNeverLimited(t *testing.T) {
	for what, account := range map[string]func(n int) string{
		"one account": func(int) string { return "alice" }, "many": func(n int) string { return fmt.Sprint("user", n) },
	} {
		synctest.Test(t, func(t *testing.T) {
			l, began := NewPasswordLimiter(time.Now()), time.Now()
			for range AccountFailures - 1 {
				l.try(t, "alice", atHome, false) // as many as leave one place
			}
			var all sync.WaitGroup
			for n := range 300 {
				all.Go(func() {
					if _, retry := l.try(t, account(n), atHome, true); retry != 0 {
						t.Errorf("%s: RetryAfter %v", what, retry)
					}
				})
			}
			all.Wait()
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("%s: 300 logins took %v", what, took)
			}
			l.idle(t)
		})
	}
}

func TestAnAbandonedAttemptCountsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		var held []*Attempt
		for range AccountFailures {
			a, err := l.Enter(t.Context(), "alice", atHome)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, a)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Enter(ctx, "alice", atHome); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		for _, a := range held {
			a.Abandoned()
		}
		if waited, retry := l.try(t, "alice", atHome, false); waited != 0 || retry != 0 {
			t.Errorf("waited %v, RetryAfter %v: abandoned attempts were counted", waited, retry)
		}
		for n := range failuresBeforeDelay {
			l.try(t, "alice", host(n), false)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := l.Enter(ctx, "alice", atCafe); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		l.idle(t)
	})
}

func TestWaitersAreServedInOrderAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		l.try(t, "alice", atHome, true) // now only one budget applies here, so there is one queue
		var held []*Attempt
		for range AccountFailures {
			a, err := l.Enter(t.Context(), "alice", atHome)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, a)
		}
		var order []int
		var mu sync.Mutex
		var all sync.WaitGroup
		for n := range maxQueued / 2 {
			all.Go(func() {
				time.Sleep(time.Duration(n) * time.Microsecond)
				a, err := l.Enter(t.Context(), "alice", atHome)
				if err != nil {
					t.Errorf("waiter %d: %v", n, err)
					return
				}
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
				a.Succeeded()
			})
		}
		time.Sleep(time.Second)
		if _, err := l.Enter(t.Context(), "alice", atHome); err == nil {
			t.Error("one attempt more than the bound was admitted")
		}
		held[0].Abandoned()
		all.Wait()
		for n := range order {
			if order[n] != n {
				t.Fatalf("attempt %d was admitted as number %d", order[n], n)
			}
		}
		for _, a := range held[1:] {
			a.Abandoned()
		}
		l.idle(t)
	})
}

func TestThePasswordLimiterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		busy, err := l.Enter(t.Context(), "alice", atHome)
		if err != nil {
			t.Fatal(err)
		}
		for n := range maxRemembered + 500 {
			a, err := l.Enter(t.Context(), strings.Repeat("n", 200)+fmt.Sprint(n), host(n))
			if err != nil {
				t.Fatal(err)
			}
			a.Failed()
		}
		if a, b, c := len(l.accountsAtAddress.entries), len(l.addresses.entries), len(l.accounts.entries); a > maxRemembered || b > maxRemembered || c > maxRemembered {
			t.Errorf("%d accounts at addresses, %d addresses, %d accounts", a, b, c)
		}
		for account := range l.accounts.entries {
			if len(account) > maxNameBytes {
				t.Fatalf("a name of %d bytes is remembered", len(account))
			}
		}
		if l.accounts.get("alice") == nil {
			t.Error("a budget in use was forgotten")
		}
		busy.Abandoned()
		l.idle(t)
	})
}

// TestInventedNamesDoNotPushOutRecords checks that many attempts with names that do not
// exist make the limiter forget neither known addresses nor failures of the attacker,
// also if each attempt is abandoned.
//
// I29.
func TestInventedNamesDoNotPushOutRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		l.try(t, "alice", atHome, true)
		for range AccountFailures {
			l.try(t, "alice", atCafe, false)
		}
		for n := range maxRemembered + 200 {
			if a, err := l.Enter(t.Context(), fmt.Sprint("abandoned ", n), atCafe); err == nil {
				a.Abandoned()
			}
		}
		for n := range maxRemembered + 200 {
			if a, err := l.Enter(t.Context(), fmt.Sprint("invented ", n), atCafe); err == nil {
				a.Failed()
			}
		}
		if waited, retry := l.try(t, "alice", atHome, true); waited != 0 || retry != 0 {
			t.Errorf("at the known address: waited %v, RetryAfter %v", waited, retry)
		}
		if b := l.accountsAtAddress.get(nameAt{"alice", atCafe}); b == nil || len(b.failures) != AccountFailures {
			t.Error("failures of the address were forgotten")
		}
		if n := len(l.accountsAtAddress.entries); n > AddressFailures {
			t.Errorf("one address has %d records", n)
		}
	})
}

// TestAFewAddressesCannotLockOutAnAccount opens hundreds of connections from each of five
// addresses. A user at another address still gets in after the delay, whether the
// attempts are for another account or for the user's own.
//
// R99.
func TestAFewAddressesCannotLockOutAnAccount(t *testing.T) {
	for what, attacked := range map[string]string{"another account": "mallory", "the same account": "alice"} {
		synctest.Test(t, func(t *testing.T) {
			l := NewPasswordLimiter(time.Now())
			for n := range slowFailures {
				l.try(t, "alice", host(n), false)
				l.try(t, attacked, host(n), false)
			}
			ctx, cancel := context.WithCancel(t.Context())
			for n := range 2 * maxQueued {
				go func() {
					if a, err := l.Enter(ctx, attacked, host(500+n%5)); err == nil {
						a.Abandoned()
					}
				}()
			}
			synctest.Wait()
			if waited, retry := l.try(t, "alice", atCafe, true); retry != 0 || waited > LongestDelay {
				t.Errorf("%s: waited %v, RetryAfter %v", what, waited, retry)
			}
			cancel()
			l.idle(t)
		})
	}
}

// TestAFewAddressesCannotFillTheHashingQueue bounds how many attempts of one address run,
// because those wait for the hasher.
func TestAFewAddressesCannotFillTheHashingQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		var inside atomic.Int64
		for n := range 500 {
			go func() {
				if a, err := l.Enter(ctx, fmt.Sprint("user", n), atHome); err == nil {
					inside.Add(1)
					<-ctx.Done()
					a.Abandoned()
				}
			}()
		}
		synctest.Wait()
		if inside.Load() != maxRunningPerAddress {
			t.Errorf("%d attempts of one address run", inside.Load())
		}
		for n := range 2 * maxQueued {
			go func() {
				if a, err := l.Enter(ctx, fmt.Sprint("user", n), host(n%3)); err == nil {
					<-ctx.Done()
					a.Abandoned()
				}
			}()
		}
		synctest.Wait()
		for n := range failuresBeforeDelay {
			l.accounts.getOrAdd("alice").fail(l.accountLimits(), l.now()-time.Duration(n))
		}
		if waited, retry := l.try(t, "alice", atCafe, true); retry != 0 || waited != FirstDelay {
			t.Errorf("while %d wait: waited %v, RetryAfter %v", l.queued, waited, retry)
		}
		cancel()
		l.idle(t)
	})
}
