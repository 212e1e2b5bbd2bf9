package limit

import (
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// blocks returns the blocks of an account as text.
func (l *PasswordLimiter) blocks(account string) []string {
	var list []string
	for _, b := range l.Account(account).Blocked {
		list = append(list, fmt.Sprint(b.From, " ", time.Until(b.Until)))
	}
	return list
}

func TestAnAccountShowsItsFailuresAndBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		if a := l.Account("=7"); !reflect.DeepEqual(a, Account{}) {
			t.Errorf("at first: %+v", a)
		}
		for range AccountFailures {
			l.try(t, "=7", atHome, false)
		}
		for range 3 {
			l.try(t, "=7", atCafe, false)
		}
		l.try(t, "=8", atHome, false)
		a := l.Account("=7")
		if a.Failures != AccountFailures+3 || len(a.Blocked) != 1 || a.Blocked[0].From != atHome {
			t.Errorf("got %+v", a)
		}
		if until := a.Blocked[0].Until; until.Before(time.Now()) || until.After(time.Now().Add(Window)) {
			t.Errorf("blocked until %v", until)
		}
		// What is shown is when the next attempt is let in.
		time.Sleep(time.Until(a.Blocked[0].Until) - time.Nanosecond)
		if _, retry := l.try(t, "=7", atHome, true); retry != time.Nanosecond {
			t.Errorf("before the time: RetryAfter is %v", retry)
		}
		time.Sleep(time.Nanosecond)
		if _, retry := l.try(t, "=7", atHome, true); retry != 0 {
			t.Errorf("at the time: RetryAfter is %v", retry)
		}
		time.Sleep(Window)
		if a := l.Account("=7"); !reflect.DeepEqual(a, Account{}) {
			t.Errorf("after the window: %+v", a)
		}
	})
}

// TestAnAccountShowsTheBlockOfItsAddress, which others have caused, once an attempt met it.
func TestAnAccountShowsTheBlockOfItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		for n := range AddressFailures {
			l.try(t, fmt.Sprint("?", n), atHome, false)
		}
		_, retry := l.try(t, "=7", atHome, true)
		if got := l.blocks("=7"); len(got) != 1 || got[0] != fmt.Sprint(atHome, " ", retry) {
			t.Errorf("got %v, want %v", got, retry)
		}
		l.Unblock("=7", time.Now(), 0)
		if got := l.blocks("=7"); got != nil {
			t.Errorf("after Unblock: %v", got)
		}
		if _, retry := l.try(t, "=8", atHome, true); retry == 0 {
			t.Error("Unblock let another account in")
		}
		// Guesses at the account are still limited.
		for n := range AccountFailures {
			if _, retry := l.try(t, "=7", atHome, false); retry != 0 {
				t.Fatalf("after Unblock: RetryAfter %v", retry)
			}
			if got := l.blocks("=7"); n < AccountFailures-1 && got != nil {
				t.Errorf("after Unblock and %d failures the user is let in, but shown: %v", n+1, got)
			}
		}
		if _, retry := l.try(t, "=7", atHome, true); retry == 0 {
			t.Error("an unblocked account may be guessed without limit")
		}
		l.idle(t)
	})
}

// R99.
func TestFailuresAfterUnblockCountForTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		for n := range AddressFailures - AccountFailures {
			l.try(t, fmt.Sprint("?", n), atHome, false)
		}
		l.Unblock("=7", time.Now(), 0)
		if _, retry := l.try(t, "=8", atHome, true); retry != 0 {
			t.Fatalf("RetryAfter is %v before the limit", retry)
		}
		for range AccountFailures {
			l.try(t, "=7", atHome, false)
		}
		if _, retry := l.try(t, "=9", atHome, true); retry == 0 {
			t.Error("the failures of an unblocked account do not count for the address")
		}
		l.idle(t)
	})
}

// R99.
func TestUnblockLiftsEveryLimitOfAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		v6 := netip.MustParseAddr("2001:db8::1")
		for _, from := range []netip.Addr{atHome, atCafe, v6} {
			for range AccountFailures {
				l.try(t, "=7", from, false)
			}
		}
		if got := l.Account("=7"); got.Failures != 3*AccountFailures || len(got.Blocked) != 3 {
			t.Errorf("before: %+v", got)
		}
		l.Unblock("=8", time.Now(), 0) // nothing happens to =7
		if _, retry := l.try(t, "=7", v6, true); retry == 0 {
			t.Error("another account was unblocked")
		}
		l.Unblock("=7", time.Now(), 0)
		if got := l.Account("=7"); !reflect.DeepEqual(got, Account{}) {
			t.Errorf("after: %+v", got)
		}
		for _, from := range []netip.Addr{atHome, atCafe, v6, host(1)} {
			if waited, retry := l.try(t, "=7", from, true); waited != 0 || retry != 0 {
				t.Errorf("at %v: waited %v, RetryAfter %v", from, waited, retry)
			}
		}
		l.idle(t)
	})
}

// Attempts that run or wait when an account is unblocked end as they would have.
func TestUnblockWhileAttemptsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		for range AccountFailures - 2 {
			l.try(t, "=7", atHome, false)
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { l.try(t, "=7", atHome, false) })
		}
		synctest.Wait()
		l.Unblock("=7", time.Now(), 0)
		all.Wait()
		if n := l.Account("=7").Failures; n != AccountFailures {
			t.Errorf("%d failures, want %d", n, AccountFailures)
		}
		l.idle(t)
	})
}

func TestLinesAreBoundedForEachCallerAndForAll(t *testing.T) {
	l, now := NewLineLimiter(), time.Now()
	allowed := func(user string, from netip.Addr, n int) (count int) {
		for range n {
			if l.Allow(user, from, now) {
				count++
			}
		}
		return count
	}
	if n := allowed("7", atHome, 1000); n != CallerLines {
		t.Errorf("one caller wrote %d lines, want %d", n, CallerLines)
	}
	for what, n := range map[string]int{
		"another user": allowed("8", atHome, 1), "another address": allowed("7", atCafe, 1), "no user": allowed("", atHome, 1),
	} {
		if n != 1 {
			t.Errorf("%s has no line because of the first", what)
		}
	}
	if n := allowed("7", netip.MustParseAddr("2001:db8::1"), CallerLines) + allowed("7", netip.MustParseAddr("2001:db8::2"), 10); n != CallerLines {
		t.Errorf("a /64 wrote %d lines, want %d", n, CallerLines)
	}
	now = now.Add(CallerLineEvery)
	if n := allowed("7", atHome, 10); n != 1 {
		t.Errorf("later the first caller wrote %d lines, want 1", n)
	}
	now = now.Add(time.Hour)
	total := 0
	for n := range 1000 {
		total += allowed("", host(n), 30)
	}
	if total != Lines {
		t.Errorf("all callers wrote %d lines, want %d", total, Lines)
	}
	now = now.Add(10 * LineEvery)
	total = 0
	for n := range 1000 {
		total += allowed("", host(2000+n), 1)
	}
	if total != 10 {
		t.Errorf("then %d lines, want 10", total)
	}
}

// TestAnUnblockingCountsOnce, and only as long as it is new: a server of a shared store is told of it before each attempt, and
// perhaps long after it.
func TestAnUnblockingCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewPasswordLimiter(time.Now())
		at := time.Now()
		fail := func() {
			t.Helper()
			for range AccountFailures {
				l.Unblock("=7", at, time.Since(at))
				l.try(t, "=7", atHome, false)
			}
		}
		fail()
		if l.Unblock("=7", at, time.Since(at)); l.blocks("=7") == nil {
			t.Error("the same unblocking counted twice")
		}
		for n := range AddressFailures { // of others
			l.try(t, fmt.Sprint("?", n), atHome, false)
		}
		at = at.Add(time.Second)
		l.Unblock("=7", at, Window/2)
		if shown := l.Account("=7"); shown.Failures != 0 || l.blocks("=7") != nil {
			t.Errorf("an unblocking of some time ago: %+v", shown)
		}
		time.Sleep(Window/2 + time.Second)
		if _, retry := l.try(t, "=7", atHome, true); retry == 0 {
			t.Error("the count of the address does not limit the account longer than a window after the unblocking")
		}
		l.try(t, "=7", atCafe, false)
		if l.Unblock("=7", at.Add(time.Second), GuessWindow); l.Account("=7").Failures == 0 {
			t.Error("an unblocking from before all failures counts")
		}
		l.idle(t)
	})
}
