package limit

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// R18.
func TestFailuresOfAnAddressDoNotLimitAKnownClient(t *testing.T) {
	l, now := NewClientLimiter(nil), time.Now()
	from := netip.MustParseAddr("192.0.2.1")
	l.Succeeded("known", from)
	for n := range AddressFailures {
		if l.Wait(fmt.Sprint("client", n), from, now) > 0 {
			t.Fatalf("limited after %d failures", n)
		}
		l.Failed(fmt.Sprint("client", n), from, now)
	}
	if l.Wait("new", from, now) == 0 {
		t.Error("a new client at the address is not limited")
	}
	if l.Wait("known", from, now) != 0 {
		t.Error("a client that authenticated from the address before is limited")
	}
	if l.Wait("new", netip.MustParseAddr("192.0.2.2"), now) != 0 {
		t.Error("another address is limited")
	}
	if l.Wait("new", from, now.Add(Window/AddressFailures+time.Second)) != 0 {
		t.Error("the address is limited for too long")
	}
}

// R18.
func TestTheClientLimiterIsBounded(t *testing.T) {
	l, now := NewClientLimiter(nil), time.Now()
	for n := range maxRemembered + 1000 {
		a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		l.Failed(strings.Repeat("x", n%300), a, now)
	}
	if len(l.clients.entries) != maxRemembered || l.clients.order.Len() != maxRemembered || len(l.addresses.entries) != maxRemembered {
		t.Fatalf("%d clients, %d addresses", len(l.clients.entries), len(l.addresses.entries))
	}
	for c := range l.clients.entries {
		if len(c.name) > maxNameBytes {
			t.Fatal("a long client_id is remembered")
		}
	}
}

// R18.
func TestTheLeastRecentlyUsedRecordIsForgotten(t *testing.T) {
	l := newLRU[int, clientRecord](2)
	l.getOrAdd(1)
	l.getOrAdd(2)
	l.get(1)
	l.getOrAdd(3)
	if l.get(1) == nil || l.get(2) != nil || l.get(3) == nil {
		t.Error("a record that was used later was forgotten")
	}
}

func TestAnIPv6NetworkCountsAsOneAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "2001:db8:1:2::1": "2001:db8:1:2::",
	} {
		if got := network(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	l, now := NewClientLimiter(nil), time.Now()
	for range ClientFailures {
		l.Failed("billing", netip.MustParseAddr("2001:db8:1:2::1"), now)
	}
	if l.Wait("billing", netip.MustParseAddr("2001:db8:1:2::2"), now) == 0 {
		t.Error("another address of the same /64 is not limited")
	}
}
