package endpoint

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

// hashing is how long a password is looked at in these tests.
const hashing = 50 * time.Millisecond

// try makes one attempt and returns how long it was kept waiting, and how long it was
// told to wait if it was refused.
func (g *passwordGuard) try(t *testing.T, account string, from netip.Addr, right bool) (waited, retry time.Duration) {
	t.Helper()
	before := time.Now()
	p, err := g.enter(t.Context(), account, from)
	waited = time.Since(before)
	if err != nil {
		var status *statusError
		if !errors.As(err, &status) || status.status != 429 || status.retryAfter <= 0 {
			t.Fatalf("refused with %v", err)
		}
		return waited, status.retryAfter
	}
	time.Sleep(hashing)
	if right {
		p.succeeded()
	} else {
		p.failed()
	}
	return waited, 0
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(n >> 8), byte(n)}) }

// R99.
func TestTenFailuresOfAnAccountAtAnAddressAndThenNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		for range accountFailures {
			if _, retry := g.try(t, "alice", atHome, false); retry != 0 {
				t.Fatal("refused too early")
			}
		}
		_, retry := g.try(t, "alice", atHome, true)
		if retry < failureWindow-time.Second || retry > failureWindow {
			t.Errorf("told to wait %v", retry)
		}
		if _, retry := g.try(t, "bob", atHome, true); retry != 0 {
			t.Error("another account at the address was refused")
		}
		if waited, retry := g.try(t, "alice", atCafe, true); retry != 0 || waited != firstDelay {
			t.Errorf("elsewhere: waited %v, refused %v", waited, retry)
		}
		time.Sleep(retry)
		if _, retry := g.try(t, "alice", atHome, true); retry != 0 {
			t.Errorf("after the wait: refused for %v", retry)
		}
	})
}

// TestNoWindowHoldsMoreFailuresThanTheLimit: not the first one, nor any that follows.
//
// R99.
func TestNoWindowHoldsMoreFailuresThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		var failures []time.Time
		for end := time.Now().Add(4 * failureWindow); time.Now().Before(end); {
			_, retry := g.try(t, "alice", atHome, false)
			if retry == 0 {
				failures = append(failures, time.Now())
			}
			time.Sleep(max(retry/3, time.Second))
		}
		for n := accountFailures; n < len(failures); n++ {
			if failures[n].Sub(failures[n-accountFailures]) < failureWindow {
				t.Fatalf("failures %d to %d lie within one window", n-accountFailures, n)
			}
		}
		if len(failures) < 4*accountFailures-1 {
			t.Errorf("only %d failures in four windows: it stays shut for too long", len(failures))
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
		{"account at an address", func(int) string { return "alice" }, func(int) netip.Addr { return atHome }, accountFailures},
		{"address", func(n int) string { return fmt.Sprint("user", n) }, func(int) netip.Addr { return atHome }, networkFailures},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newPasswordGuard(time.Now())
			var looked, refused atomic.Int64
			var all sync.WaitGroup
			for n := range 500 {
				all.Go(func() {
					if _, retry := g.try(t, tt.account(n), tt.from(n), false); retry > 0 {
						refused.Add(1)
					} else {
						looked.Add(1)
					}
				})
			}
			all.Wait()
			if int(looked.Load()) != tt.limit || int(refused.Load()) != 500-tt.limit {
				t.Errorf("%s: looked at %d, refused %d", tt.what, looked.Load(), refused.Load())
			}
			g.idle(t)
		})
	}
}

// idle fails if an attempt has left something behind.
func (g *passwordGuard) idle(t *testing.T) {
	t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.pairs.entries {
		if b := &e.Value.(*lruEntry[pair, budget]).value; b.inUse() {
			t.Errorf("a pair is in use: %d under way, %d waiting", b.underWay, len(b.waiting))
		}
	}
	for _, e := range g.networks.entries {
		if b := &e.Value.(*lruEntry[netip.Addr, budget]).value; b.inUse() {
			t.Errorf("a network is in use: %d under way, %d waiting", b.underWay, len(b.waiting))
		}
	}
	for _, e := range g.accounts.entries {
		if b := &e.Value.(*lruEntry[string, budget]).value; b.inUse() {
			t.Errorf("an account is in use: %d under way, %d waiting", b.underWay, len(b.waiting))
		}
	}
	if g.patient != 0 {
		t.Errorf("%d wait", g.patient)
	}
}

// R99.
func TestAnAccountIsSlowedOverAllAddressesAndNeverLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		for n, want := range []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 10, 10, 10, 10, 10, 10} {
			waited, retry := g.try(t, "alice", address(n), false)
			if waited != want*time.Second || retry != 0 {
				t.Errorf("after %d failures: waited %v, refused for %v", n, waited, retry)
			}
		}
		if waited, _ := g.try(t, "bob", address(1), true); waited != 0 {
			t.Errorf("another account waited %v", waited)
		}
		time.Sleep(failureWindow)
		if waited, _ := g.try(t, "alice", address(1), true); waited != 0 {
			t.Errorf("after the window: waited %v", waited)
		}
	})
}

// R99.
func TestParallelAttemptsFromEverywhereMeetTheDelayToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		var prompt, slow, refused atomic.Int64
		var all sync.WaitGroup
		for n := range 300 {
			all.Go(func() {
				waited, retry := g.try(t, "alice", address(n), false)
				switch {
				case retry > 0:
					refused.Add(1)
				case waited < firstDelay:
					prompt.Add(1)
				default:
					slow.Add(1)
				}
			})
		}
		all.Wait()
		if prompt.Load() != promptFailures || slow.Load() > maxSleeping || refused.Load() != 300-prompt.Load()-slow.Load() || slow.Load() == 0 {
			t.Errorf("%d at once, %d after a delay, %d refused", prompt.Load(), slow.Load(), refused.Load())
		}
		g.idle(t)
	})
}

// R99.
func TestAnAddressThatLoggedInBeforeIsNotHeldUpByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		g.try(t, "alice", atHome, true)
		for n := range 40 {
			g.try(t, "alice", address(n), false) // her account from everywhere
		}
		for n := range networkFailures {
			g.try(t, fmt.Sprint("user", n), atHome, false) // and her address
		}
		if waited, retry := g.try(t, "alice", atHome, true); waited != 0 || retry != 0 {
			t.Errorf("at home: waited %v, refused for %v", waited, retry)
		}
		if _, retry := g.try(t, "bob", atHome, true); retry == 0 {
			t.Error("a stranger at her address was let in")
		}
		if waited, _ := g.try(t, "alice", atCafe, true); waited == 0 {
			t.Error("a new address did not wait")
		}
		for range accountFailures {
			g.try(t, "alice", atHome, false)
		}
		if _, retry := g.try(t, "alice", atHome, true); retry == 0 {
			t.Error("the first row does not hold for her")
		}
		time.Sleep(failureWindow)
		for range accountFailures {
			g.try(t, "alice", atHome, false)
		}
		if waited, _ := g.try(t, "alice", address(1000), false); waited != firstDelay {
			t.Errorf("elsewhere: waited %v, so that her own failures do not count there", waited)
		}
	})
}

func TestSuccessfulLoginsAreNeverLimited(t *testing.T) {
	for what, account := range map[string]func(n int) string{
		"one account": func(int) string { return "alice" }, "many": func(n int) string { return fmt.Sprint("user", n) },
	} {
		synctest.Test(t, func(t *testing.T) {
			g, began := newPasswordGuard(time.Now()), time.Now()
			for range accountFailures - 1 {
				g.try(t, "alice", atHome, false) // as many as leave one place
			}
			var all sync.WaitGroup
			for n := range 300 {
				all.Go(func() {
					if _, retry := g.try(t, account(n), atHome, true); retry != 0 {
						t.Errorf("%s: refused for %v", what, retry)
					}
				})
			}
			all.Wait()
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("%s: 300 took %v", what, took)
			}
			g.idle(t)
		})
	}
}

func TestWhoGivesUpLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		var held []*place
		for range accountFailures {
			p, err := g.enter(t.Context(), "alice", atHome)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, p)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.enter(ctx, "alice", atHome); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		for _, p := range held {
			p.abandoned()
		}
		if waited, retry := g.try(t, "alice", atHome, false); waited != 0 || retry != 0 {
			t.Errorf("waited %v, refused for %v: what nobody looked at has counted", waited, retry)
		}
		for n := range promptFailures {
			g.try(t, "alice", address(n), false)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := g.enter(ctx, "alice", atCafe); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		g.idle(t)
	})
}

func TestWaitersAreServedInOrderAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		g.try(t, "alice", atHome, true) // from now on one row counts here, and so one queue
		var held []*place
		for range accountFailures {
			p, err := g.enter(t.Context(), "alice", atHome)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, p)
		}
		var order []int
		var mu sync.Mutex
		var all sync.WaitGroup
		for n := range maxPatient / 2 {
			all.Go(func() {
				time.Sleep(time.Duration(n) * time.Microsecond)
				p, err := g.enter(t.Context(), "alice", atHome)
				if err != nil {
					t.Errorf("waiter %d: %v", n, err)
					return
				}
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
				p.succeeded()
			})
		}
		time.Sleep(time.Second)
		if _, err := g.enter(t.Context(), "alice", atHome); err == nil {
			t.Error("one more may wait")
		}
		held[0].abandoned()
		all.Wait()
		for n := range order {
			if order[n] != n {
				t.Fatalf("waiter %d came %d.", order[n], n)
			}
		}
		for _, p := range held[1:] {
			p.abandoned()
		}
		g.idle(t)
	})
}

func TestThePasswordGuardStaysSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		busy, err := g.enter(t.Context(), "alice", atHome)
		if err != nil {
			t.Fatal(err)
		}
		for n := range maxRemembered + 500 {
			p, err := g.enter(t.Context(), strings.Repeat("n", 200)+fmt.Sprint(n), address(n))
			if err != nil {
				t.Fatal(err)
			}
			p.failed()
		}
		if a, b, c := len(g.pairs.entries), len(g.networks.entries), len(g.accounts.entries); a > maxRemembered || b > maxRemembered || c > maxRemembered {
			t.Errorf("remembers %d, %d, %d", a, b, c)
		}
		for account := range g.accounts.entries {
			if len(account) > maxGuardedBytes {
				t.Fatalf("remembers %d bytes", len(account))
			}
		}
		if g.accounts.get("alice") == nil {
			t.Error("what is in use was forgotten")
		}
		busy.abandoned()
		g.idle(t)
	})
}

// TestNamesThatAnAddressMakesUpCostNobodyAnything: neither the welcome of others nor the
// address's own count with an account, also where each attempt is given up in time.
func TestNamesThatAnAddressMakesUpCostNobodyAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		g.try(t, "alice", atHome, true)
		for range accountFailures {
			g.try(t, "alice", atCafe, false)
		}
		for n := range maxRemembered + 200 {
			if p, err := g.enter(t.Context(), fmt.Sprint("given up ", n), atCafe); err == nil {
				p.abandoned()
			}
		}
		for n := range maxRemembered + 200 {
			if p, err := g.enter(t.Context(), fmt.Sprint("made up ", n), atCafe); err == nil {
				p.failed()
			}
		}
		if waited, retry := g.try(t, "alice", atHome, true); waited != 0 || retry != 0 {
			t.Errorf("at home: waited %v, refused for %v", waited, retry)
		}
		if b := g.pairs.get(pair{"alice", atCafe}); b == nil || len(b.failures) != accountFailures {
			t.Error("the address has got rid of its failures")
		}
		if n := len(g.pairs.entries); n > networkFailures {
			t.Errorf("one address has %d rows", n)
		}
	})
}

// TestAFewAddressesLockNobodyOut, with hundreds of connections each: somebody at another
// one gets in after the delay, whether they wait for an account of their own or for his.
//
// R99.
func TestAFewAddressesLockNobodyOut(t *testing.T) {
	for what, attacked := range map[string]string{"a made-up name": "nobody", "the victim's": "alice"} {
		synctest.Test(t, func(t *testing.T) {
			g := newPasswordGuard(time.Now())
			for n := range countedFailures {
				g.try(t, "alice", address(n), false)
				g.try(t, attacked, address(n), false)
			}
			ctx, cancel := context.WithCancel(t.Context())
			for n := range 2 * maxPatient {
				go func() {
					if p, err := g.enter(ctx, attacked, address(500+n%5)); err == nil {
						p.abandoned()
					}
				}()
			}
			synctest.Wait()
			if waited, retry := g.try(t, "alice", atCafe, true); retry != 0 || waited > longestDelay {
				t.Errorf("%s: waited %v, refused for %v", what, waited, retry)
			}
			cancel()
			g.idle(t)
		})
	}
}

// TestAFewAddressesCannotFillTheQueueOfHashers: attempts that are let in wait there.
func TestAFewAddressesCannotFillTheQueueOfHashers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPasswordGuard(time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		var inside atomic.Int64
		for n := range 500 {
			go func() {
				if p, err := g.enter(ctx, fmt.Sprint("user", n), atHome); err == nil {
					inside.Add(1)
					<-ctx.Done()
					p.abandoned()
				}
			}()
		}
		synctest.Wait()
		if inside.Load() != networkAtOnce {
			t.Errorf("%d of one address are looked at at once", inside.Load())
		}
		for n := range 2 * maxPatient {
			go func() {
				if p, err := g.enter(ctx, fmt.Sprint("user", n), address(n%3)); err == nil {
					<-ctx.Done()
					p.abandoned()
				}
			}()
		}
		synctest.Wait()
		for n := range promptFailures {
			g.accounts.getOrAdd("alice").fail(accountRow, g.now()-time.Duration(n))
		}
		if waited, retry := g.try(t, "alice", atCafe, true); retry != 0 || waited != firstDelay {
			t.Errorf("while %d wait: waited %v, refused for %v", g.patient, waited, retry)
		}
		cancel()
		g.idle(t)
	})
}
