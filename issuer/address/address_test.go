package address

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"testing"
)

func TestASubscriberAndANetworkHaveManyAddresses(t *testing.T) {
	for _, tt := range []struct{ address, subscriber, network string }{
		{"192.0.2.7", "192.0.2.7", "192.0.2.0/24"},
		{"192.0.2.8", "192.0.2.8", "192.0.2.0/24"},
		{"192.0.3.7", "192.0.3.7", "192.0.3.0/24"},
		{"::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0/24"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::/48"},
		{"2001:db8:1:2::7%eth0", "2001:db8:1:2::", "2001:db8:1::/48"},
		{"2001:db8:1:ff::1", "2001:db8:1:ff::", "2001:db8:1::/48"},
		{"2001:db8:2:2::1", "2001:db8:2:2::", "2001:db8:2::/48"},
	} {
		a := netip.MustParseAddr(tt.address)
		if got := Subscriber(a).String(); got != tt.subscriber {
			t.Errorf("%s: subscriber %s", tt.address, got)
		}
		if got := Network(a).String(); got != tt.network {
			t.Errorf("%s: network %s", tt.address, got)
		}
	}
	if Subscriber(netip.Addr{}).IsValid() || Network(netip.Addr{}).IsValid() {
		t.Error("no address has a network")
	}
}

// TestAHashNeedsItsKey: the same address has another hash under another key and for another user.
func TestAHashNeedsItsKey(t *testing.T) {
	hash := func(key, user, address string) string {
		return string(Hash(hmac.New(sha256.New, []byte(key)), user, netip.MustParseAddr(address)))
	}
	one := hash("key", "7", "192.0.2.1")
	for what, other := range map[string]string{
		"key": hash("another", "7", "192.0.2.1"), "user": hash("key", "8", "192.0.2.1"), "address": hash("key", "7", "192.0.2.2"),
		"mapped": hash("key", "7", "::ffff:192.0.2.2"),
	} {
		if one == other {
			t.Errorf("another %s has the same hash", what)
		}
	}
	if one != hash("key", "7", "::ffff:192.0.2.1") || len(one) != hashBytes {
		t.Errorf("%x", one)
	}
	if hash("key", "7", "2001:db8:1:2::1") != hash("key", "7", "2001:db8:1:2:3::9") {
		t.Error("two addresses of one /64 have different hashes")
	}
}

func TestAKnownListForgetsTheAddressThatWasAddedFirst(t *testing.T) {
	var list Known
	for n := range byte(maxKnown) {
		list = list.With([]byte{n})
		list = list.With([]byte{0}) // it is there: nothing moves
	}
	before := list
	longer := list.With([]byte{100})
	switch {
	case len(list) != maxKnown || len(longer) != maxKnown:
		t.Errorf("%d and %d hashes", len(list), len(longer))
	case longer.Has([]byte{0}) || !longer.Has([]byte{1}) || !longer.Has([]byte{100}):
		t.Errorf("%v", longer)
	case !before.Has([]byte{0}) || before.Has([]byte{100}):
		t.Error("the list itself was changed")
	case &list.With([]byte{3})[0] != &list[0]:
		t.Error("a list that has the hash was copied")
	}
}
