package limit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// servers returns the limiters of three servers of one store.
func servers() (list []*PasswordLimiter) {
	for range 3 {
		l := NewPasswordLimiter(time.Now())
		l.SetShare(func() int { return 3 })
		list = append(list, l)
	}
	return list
}

// TestSeveralServersHaveTheLimitsOfOneTogether: an attacker asks each in turn.
func TestSeveralServersHaveTheLimitsOfOneTogether(t *testing.T) {
	for _, tt := range []struct {
		name      string
		tries     int
		account   func(n int) string
		most, few int // failures that all servers let through together
	}{
		{"an account at an address", 60, func(int) string { return "alice" }, AccountFailures, AccountFailures - 2},
		{"an address", 300, func(n int) string { return fmt.Sprint("user", n) }, AddressFailures, AddressFailures - 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all, failed := servers(), 0
				for n := range tt.tries {
					if _, retry := all[n%len(all)].try(t, tt.account(n), atHome, false); retry == 0 {
						failed++
					}
				}
				if failed > tt.most || failed < tt.few {
					t.Errorf("%d failures were let through, want %d to %d", failed, tt.few, tt.most)
				}
			})
		})
	}
}

// TestSeveralServersDrawAsSeldomAsOne: guesses from many networks, at all servers at once.
func TestSeveralServersDrawAsSeldomAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, looked, hours := servers(), make(chan struct{}, 10_000), 4
		for n, l := range all {
			go func() {
				for m := range hours * 3600 / 2 {
					go func() {
						if _, retry := l.try(t, "alice", host(n*20_000+m%20_000), false); retry == 0 {
							looked <- struct{}{}
						}
					}()
					time.Sleep(2 * time.Second)
				}
			}()
		}
		time.Sleep(time.Duration(hours) * time.Hour)
		// The first hour begins with all guesses; then one is drawn every 36 s.
		if n := len(looked); n > (hours+1)*MaxGuesses+len(all) || n < (hours-1)*MaxGuesses {
			t.Errorf("%d guesses in %d hours", n, hours)
		}
		time.Sleep(time.Minute)
	})
}

func TestSeveralServersHaveTheLimitsOfClientsTogether(t *testing.T) {
	now := time.Now()
	var clients []*ClientLimiter
	var tokens []*AddressLimiter
	for range 3 {
		share := func() int { return 3 }
		clients, tokens = append(clients, NewClientLimiter(share)), append(tokens, NewAddressLimiter(share))
	}
	one, invented, invalid := 0, 0, 0
	for n := range 400 {
		if l := clients[n%3]; l.Wait("billing", atHome, now) == 0 {
			one++
			l.Failed("billing", atHome, now)
		}
		if l, name := clients[n%3], fmt.Sprint("client", n); l.Wait(name, atCafe, now) == 0 {
			invented++
			l.Failed(name, atCafe, now)
		}
		if l := tokens[n%3]; l.Wait(atHome, now) == 0 {
			invalid++
			l.Failed(atHome, now)
		}
	}
	for name, n := range map[string][2]int{"a client": {one, ClientFailures}, "an address": {invented, AddressFailures}, "tokens": {invalid, AddressFailures}} {
		if n[0] > n[1] || n[0] < n[1]-2 {
			t.Errorf("%s: %d failures were let through, the limit is %d", name, n[0], n[1])
		}
	}
}

// TestAShareFollowsTheNumberOfServers, and is never less than one failure.
func TestAShareFollowsTheNumberOfServers(t *testing.T) {
	servers, now := 1, time.Now()
	l := NewClientLimiter(func() int { return servers })
	fail := func(want int) {
		t.Helper()
		n := 0
		for ; l.Wait("billing", atHome, now) == 0 && n < 100; n++ {
			l.Failed("billing", atHome, now)
		}
		if n != want {
			t.Errorf("with %d servers %d failures, want %d", servers, n, want)
		}
	}
	fail(ClientFailures)
	servers, now = 5, now.Add(Window)
	fail(ClientFailures / 5)
	servers, now = 1000, now.Add(Window)
	fail(1)
	servers, now = 0, now.Add(Window)
	fail(1) // and from here on the limits grow back at their old pace
	now = now.Add(Window)
	fail(ClientFailures)
	for nodes, want := range map[int]int{0: 10, 1: 10, 3: 3, 11: 1} {
		if got := Share(func() int { return nodes }).of(10); got != want {
			t.Errorf("the share of 10 with %d servers is %d, want %d", nodes, got, want)
		}
	}
}
