package password

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// A line is a Hasher of one worker whose worker is taken, and the order in which waiting hashes run.
type line struct {
	t      *testing.T
	h      *Hasher
	ctx    context.Context
	finish func() // ends the hash that runs
	order  []string
	busy   atomic.Int64
}

func inLine(t *testing.T, f func(l *line)) {
	t.Helper()
	untilDone(t, func(ctx context.Context) {
		l := &line{t: t, h: newHasher(1, hashBudget), ctx: ctx}
		var err error
		if l.finish, err = l.h.acquire(ctx, policy); err != nil {
			t.Fatal(err)
		}
		f(l)
	})
}

// join lets a hash wait in the place of an account, or in no account's if it is "".
func (l *line) join(ctx context.Context, account, name string) {
	go func() {
		done, err := l.h.acquireFor(ctx, account, policy)
		var full *BusyError
		switch {
		case errors.As(err, &full):
			l.busy.Add(1)
		case err == nil:
			l.order = append(l.order, name) // one at a time
			done()
		}
	}()
	synctest.Wait()
}

// TestOthersCannotTakeThePlaceOfAKnownLogin: 440 connections of 22 addresses, and many more, fill the
// queue with guesses. A login from a known address still waits for one hash only, for each account.
//
// I29.
func TestOthersCannotTakeThePlaceOfAKnownLogin(t *testing.T) {
	for _, guesses := range []int{440, maxHashWaiting, 3 * maxHashWaiting} {
		inLine(t, func(l *line) {
			for n := range guesses {
				l.join(l.ctx, "", fmt.Sprint("guess ", n))
			}
			for _, user := range []string{"alice", "bob", "carol"} {
				l.join(l.ctx, "="+user, user)
			}
			if busy := int(l.busy.Load()); busy != guesses-maxHashWaiting {
				t.Errorf("%d of %d guesses found the queue full", busy, guesses)
			}
			l.finish()
			synctest.Wait()
			if !slices.Equal(l.order[:6], []string{"alice", "guess 0", "bob", "guess 1", "carol", "guess 2"}) {
				t.Errorf("%d guesses: order %v", guesses, l.order[:6])
			}
			if len(l.order) != maxHashWaiting+3 || l.h.turns.waiting() != 0 || l.h.turns.free != hashBudget {
				t.Errorf("%d hashes ran, %d wait, %d free", len(l.order), l.h.turns.waiting(), l.h.turns.free)
			}
		})
	}
}

// TestOneAccountCannotTakeTheKnownPlacesOfOthers, and all its logins run nevertheless.
func TestOneAccountCannotTakeTheKnownPlacesOfOthers(t *testing.T) {
	inLine(t, func(l *line) {
		for n := range maxHashWaiting {
			l.join(l.ctx, "=mallory", fmt.Sprint("mallory ", n))
		}
		if known := len(l.h.turns.accounts); known != maxHashWaitingAccount {
			t.Errorf("one account has %d places", known)
		}
		l.join(l.ctx, "=alice", "alice")
		l.finish()
		synctest.Wait()
		if at := slices.Index(l.order, "alice"); at < 0 || at > 2*maxHashWaitingAccount+1 {
			t.Errorf("alice was number %d", at)
		}
		if len(l.order) != maxHashWaiting+1 || l.busy.Load() != 0 {
			t.Errorf("%d of %d logins ran, %d were refused", len(l.order), maxHashWaiting+1, l.busy.Load())
		}
	})
}

// TestTheQueueOfAccountsIsBounded: with more accounts than it has places, a login waits with the others.
func TestTheQueueOfAccountsIsBounded(t *testing.T) {
	inLine(t, func(l *line) {
		for n := range 3 * maxHashWaiting {
			l.join(l.ctx, fmt.Sprint("=user", n), fmt.Sprint(n))
		}
		if a, b := len(l.h.turns.accounts), len(l.h.turns.others); a != maxHashWaiting || b != maxHashWaiting || int(l.busy.Load()) != maxHashWaiting {
			t.Errorf("%d and %d wait, %d are refused", a, b, l.busy.Load())
		}
		l.finish()
		synctest.Wait()
		if len(l.order) != 2*maxHashWaiting {
			t.Errorf("%d ran", len(l.order))
		}
	})
}

// TestKnownLoginsDoNotStopOthers: the queues are served in turn.
func TestKnownLoginsDoNotStopOthers(t *testing.T) {
	inLine(t, func(l *line) {
		for n := range 100 {
			l.join(l.ctx, fmt.Sprint("=user", n), "known")
		}
		l.join(l.ctx, "", "new")
		l.finish()
		synctest.Wait()
		if at := slices.Index(l.order, "new"); at != 1 {
			t.Errorf("the other login was number %d", at)
		}
	})
}

// TestAPlaceThatIsGivenUpGoesToTheNext, wherever the login waited and whatever it weighs.
func TestAPlaceThatIsGivenUpGoesToTheNext(t *testing.T) {
	for _, account := range []string{"", "=alice"} {
		inLine(t, func(l *line) {
			leaving, leave := context.WithCancel(l.ctx)
			for range 5 {
				l.join(leaving, account, "gone")
			}
			l.join(l.ctx, account, "next")
			leave()
			synctest.Wait()
			if n := l.h.turns.waiting(); n != 1 {
				t.Errorf("%q: %d wait", account, n)
			}
			l.finish()
			synctest.Wait()
			if !slices.Equal(l.order, []string{"next"}) || l.h.turns.free != hashBudget {
				t.Errorf("%q: order %v, %d free", account, l.order, l.h.turns.free)
			}
		})
	}
	turns := &turns{free: 1}
	w := func() *turn { w, _ := turns.join("", 1); return w }
	first, second, third := w(), w(), w()
	turns.release(1)    // the turn of second comes
	turns.leave(second) // at the same time it gives up
	select {
	case <-third.come:
	default:
		t.Error("the turn of a hash that gave up was lost")
	}
	if first != nil || turns.free != 0 {
		t.Errorf("%v, %d free", first, turns.free)
	}
}
