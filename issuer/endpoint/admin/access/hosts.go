package access

import (
	"crypto/x509"
	"net"
	"strings"
)

// Hosts are the Host headers that are answered.
type Hosts struct {
	Port     string // of the listener
	Loopback bool   // the listener has a loopback address
	Address  string // of the listener; only one of loopback is answered as a Host

	// Certificate returns the certificate of the listener at this moment; nil if it speaks plain http.
	Certificate func() *x509.Certificate
}

// serve reports whether a Host header names this listener. A Host without a port means the port of the
// protocol (RFC 9110, section 4.2). The names of the certificate match as in TLS.
func (h Hosts) serve(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, "80"
		if h.Certificate != nil {
			port = "443"
		}
		if inner, ok := strings.CutPrefix(name, "["); ok {
			name = strings.TrimSuffix(inner, "]")
		} else if strings.Contains(name, ":") {
			return false
		}
	}
	if name == "" || port != h.Port {
		return false
	}
	if h.Loopback && (name == "127.0.0.1" || name == "::1" || name == h.Address || strings.EqualFold(name, "localhost")) {
		return true
	}
	return h.Certificate != nil && h.Certificate().VerifyHostname(name) == nil
}
