package serve

import (
	"net"
	"net/url"

	"keymill/jwks"
)

// warnOfPlainHTTP logs where tokens, secrets and passwords can cross a network unencrypted. The server
// speaks http unless it has a certificate, and a proxy adds TLS. It cannot see the proxy, so it takes trusted_proxies for
// the sign of one.
func (s *server) warnOfPlainHTTP() {
	host, _, err := net.SplitHostPort(s.public.Addr().String())
	if err == nil && s.tls == nil && !jwks.IsLoopback(host) && len(s.config.TrustedProxies) == 0 {
		s.log.Warn("plain http on an address that is not loopback: secrets and tokens can be read on the network",
			"listen", s.public.Addr().String(),
			"type", "listen on 127.0.0.1, set tls.cert_file and tls.key_file, or name the proxy that adds TLS in http.trusted_proxies")
	}
	if u, err := url.Parse(s.config.Issuer); err == nil && u.Scheme == "http" && !jwks.IsLoopback(u.Hostname()) {
		s.log.Warn("the issuer is plain http and not loopback: its clients send secrets and passwords unencrypted",
			"issuer", s.config.Issuer, "type", "give the issuer an https URL")
	}
}
