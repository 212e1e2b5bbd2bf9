package address

import (
	"net/netip"
	"strings"
	"testing"
)

func TestOnlyTrustedProxiesNameTheClientsAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tt := range []struct {
		peer  string
		lines []string
		want  string
	}{
		{"192.0.2.1", nil, "192.0.2.1"},
		{"192.0.2.1", []string{"203.0.113.9"}, "192.0.2.1"}, // the peer is not a proxy of ours
		{"10.0.0.1", nil, "10.0.0.1"},
		{"10.0.0.1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"}, // the client has written the left one
		{"10.0.0.1", []string{"1.1.1.1", "203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1", []string{"203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"10.0.0.1", []string{"203.0.113.9", "10.0.0.3,10.0.0.2"}, "203.0.113.9"},
		{"10.0.0.1", []string{"203.0.113.9, garbage"}, "10.0.0.1"},
		{"10.0.0.1", []string{"203.0.113.9,"}, "10.0.0.1"},
		{"10.0.0.1", []string{"203.0.113.9:1234"}, "203.0.113.9"},
		{"10.0.0.1", []string{"[2001:db8::7]:80"}, "2001:db8::7"},
		{"fd00::1", []string{"2001:db8::7"}, "2001:db8::7"},
		{"10.0.0.1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1", []string{"10.0.0.2"}, "10.0.0.2"},
	} {
		if got := Forwarded(netip.MustParseAddr(tt.peer), tt.lines, trusted); got.String() != tt.want {
			t.Errorf("%s %q: got %s, want %s", tt.peer, tt.lines, got, tt.want)
		}
	}
}

// FuzzForwarded checks that the result is the peer's address or one in the header, and the
// peer's if the peer is not trusted.
func FuzzForwarded(f *testing.F) {
	f.Add("203.0.113.9, 10.0.0.2", "1.1.1.1", true)
	f.Add("", "", false)
	f.Add("[::1]:80,,", "x", true)
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, a, b string, proxy bool) {
		peer := netip.MustParseAddr("192.0.2.1")
		if proxy {
			peer = netip.MustParseAddr("10.0.0.1")
		}
		got := Forwarded(peer, []string{a, b}, trusted)
		if !got.IsValid() || (!proxy && got != peer) {
			t.Fatalf("got %s", got)
		}
		if got == peer {
			return
		}
		for hop := range strings.SplitSeq(a+","+b, ",") {
			if h, ok := parseHop(strings.TrimSpace(hop)); ok && h == got {
				return
			}
		}
		t.Fatalf("%s is in neither %q nor %q", got, a, b)
	})
}
