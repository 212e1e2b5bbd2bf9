package address

import (
	"net/netip"
	"strings"
)

// Forwarded returns the address of the client behind trusted proxies: addr, which is that of the peer, or one that the
// lines of X-Forwarded-For name. It reads them from the right. Each proxy appends the address of its own peer, so an
// entry is believed as long as a trusted proxy has written it. Entries further to the left were written by the client
// and prove nothing. An entry that is not an address ends the search.
func Forwarded(addr netip.Addr, lines []string, trusted []netip.Prefix) netip.Addr {
	for n := len(lines) - 1; n >= 0; n-- {
		rest, more := lines[n], true
		for more {
			if !isIn(addr, trusted) {
				return addr
			}
			entry := rest
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, entry = rest[:comma], rest[comma+1:]
			} else {
				more = false
			}
			next, ok := parseHop(strings.TrimSpace(entry))
			if !ok {
				return addr
			}
			addr = next
		}
	}
	return addr
}

// parseHop parses an entry. Some proxies append a port.
func parseHop(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = ap.Addr()
	}
	return a.Unmap().WithZone(""), true
}

func isIn(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
