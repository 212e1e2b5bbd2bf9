package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
)

// guess fails at an account so often that further guesses are drawn. It uses known addresses, where no
// attempt waits.
func (w *world) guess(account string) {
	w.t.Helper()
	for n := range limit.MaxGuesses {
		from := netip.AddrFrom4([4]byte{198, 18, byte(n), 1})
		w.server.passwords.Remember(account, from)
		a, err := w.server.passwords.Enter(w.t.Context(), account, from)
		if err != nil {
			w.t.Fatal(err)
		}
		a.Failed()
	}
}

// took returns how long a login took. In a bubble only waiting takes time.
func (w *world) took(name, password string) (answer, time.Duration) {
	w.t.Helper()
	began := time.Now()
	return w.postJSON("/api/token/", credentials(name, password)), time.Since(began)
}

// TestAKnownAddressStaysExemptAfterARestart while the account is under attack. Another address waits for
// a draw or is told when it can come back, whether the name exists or not.
//
// R99, I29.
func TestAKnownAddressStaysExemptAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.user("bob", "8")
		w.http = w.from("192.0.2.1")
		w.obtain()
		w.http = w.from("[2001:db8:1:2::3]")
		w.obtain()
		if err := w.store.Close(); err != nil {
			t.Fatal(err)
		}
		keys := testKeys
		keys.Algorithms = []string{"EdDSA"}
		w.open(t, keys) // as after a restart: the limits have forgotten everything
		w.guess(w.countKey("7"))
		w.guess("?carol")
		for _, from := range []string{"192.0.2.1", "[2001:db8:1:2::3]", "[2001:db8:1:2:ffff::1]"} {
			w.http = w.from(from)
			if a, took := w.took("alice", alicesPassword); a.status != 200 || took >= limit.FirstDelay {
				t.Errorf("from %s: %d after %v", from, a.status, took)
			}
		}
		for n, name := range []string{"alice", "carol"} {
			w.http = w.from("203.0.113." + strconv.Itoa(1+n))
			if a, took := w.took(name, "wrong"); a.status != 401 || took < limit.DrawTime || took > limit.DrawTime+time.Second {
				t.Errorf("%s from an address alone in its draw: %d after %v", name, a.status, took)
			}
			w.http = w.from("203.0.113." + strconv.Itoa(10+n))
			a, took := w.took(name, alicesPassword)
			retry, _ := strconv.Atoi(a.header.Get("Retry-After"))
			if a.status != http.StatusTooManyRequests || took >= time.Second || retry < 20 || retry > 26 {
				t.Errorf("%s from an address after a draw: %d after %v, Retry-After %d", name, a.status, took, retry)
			}
		}
		for _, from := range []string{"203.0.113.1", "192.0.2.1"} { // bob is not guessed, and an address of alice tells nothing about him
			w.http = w.from(from)
			if a, took := w.took("bob", alicesPassword); a.status != 200 || took >= limit.FirstDelay {
				t.Errorf("bob from %s: %d after %v", from, a.status, took)
			}
		}
		lines := w.logged()
		limited := 0
		for _, line := range lines {
			if line["limit"] == limit.LimitGuesses && line["reason"] == "too_many_failures" && line["until"] != nil {
				limited++
			}
		}
		if limited != 1 { // carol does not exist: she is only counted
			t.Errorf("%d lines name the limit: %v", limited, lines)
		}
	})
}

// TestOperatorsSeeThatLoginsAreDrawn through the admin API, and lift it.
func TestOperatorsSeeThatLoginsAreDrawn(t *testing.T) {
	w := newWorld(t).withAlice()
	show := func(method, path string) (u api.UserDetails) {
		if err := json.Unmarshal([]byte(w.expect(200, method, path, "").body), &u); err != nil {
			t.Fatal(err)
		}
		return u
	}
	if u := show("GET", "/admin/v1/user?user=alice"); u.DrawnUntil != nil {
		t.Errorf("at first: %v", u.DrawnUntil)
	}
	w.guess(w.countKey("7"))
	u := show("GET", "/admin/v1/user?user=alice")
	if u.DrawnUntil == nil || time.Until(*u.DrawnUntil) > limit.GuessWindow+time.Second || time.Until(*u.DrawnUntil) < limit.GuessWindow-time.Minute {
		t.Errorf("drawn until %v", u.DrawnUntil)
	}
	if u := show("POST", "/admin/v1/user/unblock?user=alice"); u.DrawnUntil != nil {
		t.Errorf("unblocked: %v", u.DrawnUntil)
	}
}

// TestARemovedUserLeavesNoKnownAddress for the next user with the id.
func TestARemovedUserLeavesNoKnownAddress(t *testing.T) {
	w := newWorld(t).withAlice()
	w.obtain()
	if got := w.place(w.countKey("7"), "127.0.0.1"); got == "" {
		t.Errorf("before: %q", got)
	}
	w.expect(204, "DELETE", "/admin/v1/user?user=alice", "")
	w.user("alice", "7")
	if got := w.place(w.countKey("7"), "127.0.0.1"); got != "" {
		t.Errorf("the next user has the place %q", got)
	}
}

// countKey returns under which name failed logins of a user are counted.
func (w *world) countKey(id string) string {
	w.t.Helper()
	count, err := w.issuer.LoginCountOf(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return count.Key
}

func (w *world) place(account, from string) string {
	w.t.Helper()
	a, err := w.server.passwords.Enter(w.t.Context(), account, netip.MustParseAddr(from))
	if err != nil {
		w.t.Fatal(err)
	}
	defer a.Abandoned()
	return a.Place()
}

// TestAKnownAddressLogsInWhileOthersFillTheQueue: 22 addresses with 20 connections each guess at names
// until the queue of hashing is full. A user who has logged in from an address before gets in from
// there at that moment. After that the guesses hang up, because hashing for all of them takes long.
//
// I29.
func TestAKnownAddressLogsInWhileOthersFillTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.http = w.from("192.0.2.1")
		w.obtain()
		ctx, hangUp := context.WithCancel(t.Context())
		defer hangUp()
		var full sync.Once
		var logins atomic.Int64
		var all sync.WaitGroup
		for n := range 440 {
			all.Go(func() {
				r := httptest.NewRequestWithContext(ctx, "POST", "/api/token/", strings.NewReader(fmt.Sprintf(`{"username":"user%d","password":"wrong"}`, n)))
				r.Header.Set("Content-Type", "application/json")
				r.RemoteAddr = fmt.Sprintf("198.18.0.%d:40000", n%22)
				a := httptest.NewRecorder()
				w.server.Public().ServeHTTP(a, r)
				if a.Code != http.StatusTooManyRequests {
					return
				}
				full.Do(func() {
					for range 3 {
						if a := w.postJSON("/api/token/", credentials("alice", alicesPassword)); a.status == 200 {
							logins.Add(1)
						} else {
							t.Errorf("the known address got %d %s", a.status, a.body)
						}
					}
					hangUp()
				})
			})
		}
		all.Wait()
		if logins.Load() != 3 {
			t.Errorf("%d logins from the known address", logins.Load())
		}
	})
}
