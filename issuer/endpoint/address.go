package endpoint

import (
	"net/http"
	"net/netip"

	"keymill/issuer/address"
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
	return address.Forwarded(addr, r.Header["X-Forwarded-For"], trusted)
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
