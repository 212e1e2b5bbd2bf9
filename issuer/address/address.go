// Package address says what the address of a request tells about who sent it, and remembers where a
// user has logged in.
//
//	          a subscriber has    an operator of networks has
//	IPv4      the address         a /24
//	IPv6      a /64               a /48
//
// A /24 is the longest IPv4 prefix that is routed between networks, so addresses outside of it cost
// their owner more than another address of the same machine. A shorter prefix, such as a /16, would
// put many users of one provider into one network with an attacker. IPv6 has the same bound at /48,
// which is also what one customer gets (RFC 6177).
package address

import (
	"bytes"
	"hash"
	"net/netip"
	"slices"
)

// Subscriber returns the first of the addresses that one subscriber has.
func Subscriber(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// Network returns the addresses of an operator of networks. It is the zero Prefix if a is no address.
func Network(a netip.Addr) netip.Prefix {
	bits := 24
	if a = a.Unmap().WithZone(""); a.Is6() {
		bits = 48
	}
	p, _ := a.Prefix(bits)
	return p
}

// A Known list has a hash of each of the addresses where a user has logged in, the one of the newest
// login at the end.
type Known [][]byte

const (
	maxKnown  = 8
	hashBytes = 16
)

// Hash returns the keyed hash of the subscriber's address for one user. mac must have a secret key: the
// IPv4 addresses are so few that any other hash can be reversed by trying all of them. The user is
// part of it, so that equal hashes do not tell which users share an address.
func Hash(mac hash.Hash, user string, a netip.Addr) []byte {
	subscriber := Subscriber(a).As16()
	mac.Write(subscriber[:])
	mac.Write([]byte(user))
	return mac.Sum(nil)[:hashBytes]
}

// Has reports whether the list has the hash.
func (k Known) Has(hash []byte) bool {
	return slices.ContainsFunc(k, func(one []byte) bool { return bytes.Equal(one, hash) })
}

// Possible reports whether With can have returned the list.
func (k Known) Possible() bool {
	for n, one := range k {
		if len(one) != hashBytes || k[:n].Has(one) {
			return false
		}
	}
	return len(k) <= maxKnown
}

// With returns the list after a login from the address with the hash, which is then the last one. A list
// that would be too long loses the address that was not used for the longest time. So eight logins from
// elsewhere do not push out the address of a daily login.
func (k Known) With(hash []byte) Known {
	others := slices.DeleteFunc(slices.Clone(k), func(one []byte) bool { return bytes.Equal(one, hash) })
	return append(others[max(0, len(others)-maxKnown+1):], hash)
}
