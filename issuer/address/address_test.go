package address

import (
	"bytes"
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

// TestAKnownListForgetsTheAddressThatWasNotUsedForTheLongestTime, and no other.
func TestAKnownListForgetsTheAddressThatWasNotUsedForTheLongestTime(t *testing.T) {
	for _, tt := range []struct{ what, logins, want string }{
		{"few", "abc", "abc"},
		{"the newest again", "abcc", "abc"},
		{"the oldest again", "abca", "bca"},
		{"one in the middle again", "abcb", "acb"},
		{"a full list", "abcdefgh", "abcdefgh"},
		{"a ninth", "abcdefghi", "bcdefghi"},
		{"the first again in a full list", "abcdefgha", "bcdefgha"},
		{"the first again, and a ninth", "abcdefghai", "cdefghai"},
		{"home each time between others", "hahbhchdhehfhghihjhk", "defgijhk"},
		{"one login at home, then others only", "habcdefgij", "bcdefgij"},
	} {
		var list Known
		for _, login := range []byte(tt.logins) {
			before := list
			shown := string(bytes.Join(list, nil))
			list = list.With([]byte{login})
			if string(bytes.Join(before, nil)) != shown {
				t.Errorf("%s: the list itself was changed", tt.what)
			}
		}
		if got := string(bytes.Join(list, nil)); got != tt.want {
			t.Errorf("%s: %s became %s, want %s", tt.what, tt.logins, got, tt.want)
		}
	}
}
