package keyset

import (
	"net/http"
	"sync/atomic"

	"keymill/issuer/verifiers"
)

const (
	maxKnown      = 256
	maxKnownAgent = 200 // bytes
)

// A visitor is who sends on a connection, as long as it names the same program and no proxy.
type visitor struct {
	*verifiers.Visitor
	peer  string // address and port of the connection
	agent string
}

// visitors have one visitor each for the connections of a place. They save a caller that comes again on its connection
// the reading of its address and the search for it.
type visitors [maxKnown]atomic.Pointer[visitor]

// place returns the place of a connection. Its last characters are those of the port.
func (v *visitors) place(peer string) *atomic.Pointer[visitor] {
	n := uint(0)
	for _, c := range []byte(peer[max(0, len(peer)-3):]) {
		n = n*10 + uint(c)
	}
	return &v[n%maxKnown]
}

// Proxied reports whether a proxy says that it has passed the request on. Then the address of the connection does not
// tell who sent it.
func Proxied(r *http.Request) bool {
	_, via := r.Header["Via"]
	_, list := r.Header["X-Forwarded-For"]
	_, standard := r.Header["Forwarded"] // RFC 7239
	return via || list || standard
}
