package endpoint

import (
	"net/http"
	"net/netip"
	"strings"

	"keymill/issuer/endpoint/keyset"
)

// address returns the address of the client: the peer's, or, if the peer is a trusted proxy,
// the one that the proxy names.
func (s *Server) address(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a Unix socket has no address
	}
	addr := peer.Addr().Unmap().WithZone("")
	trusted := *s.trusted.Load()
	if len(trusted) == 0 {
		return addr
	}
	return forwarded(addr, r.Header["X-Forwarded-For"], trusted)
}

// addresses returns the address of the client, and that of the peer if it is a proxy: one that is trusted and
// names the client, or one that says of itself that it is a proxy. What an untrusted one says about its client is not
// believed. The second address is invalid if there is no proxy that we know of.
func (s *Server) addresses(r *http.Request) (client, through netip.Addr) {
	client = s.address(r)
	if !keyset.Proxied(r) {
		return client, netip.Addr{} // also of a trusted proxy, which then names no client
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return client, netip.Addr{}
	}
	return client, peer.Addr().Unmap().WithZone("")
}

// SetTrustedProxies replaces the proxies whose X-Forwarded-For is believed. A request that is being
// served may still use those of before.
func (s *Server) SetTrustedProxies(proxies []netip.Prefix) { s.trusted.Store(&proxies) }

// forwarded reads X-Forwarded-For from the right. Each proxy appends the address of its own
// peer, so an entry is believed as long as a trusted proxy has written it. Entries further
// to the left were written by the client and prove nothing. An entry that is not an address
// ends the search.
func forwarded(addr netip.Addr, lines []string, trusted []netip.Prefix) netip.Addr {
	for n := len(lines) - 1; n >= 0; n-- {
		rest, more := lines[n], true
		for more {
			if !isTrusted(addr, trusted) {
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

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
