// Package limit counts failed attempts to authenticate and slows down guessing. A
// ClientLimiter counts wrong client secrets, a PasswordLimiter wrong passwords, an AddressLimiter
// tokens that are not valid. Only
// failures count: clients and users that authenticate are never limited. A LineLimiter
// bounds the log lines of failed requests.
//
//	counted                         failures in 15 min   then
//	client at an address            10                   refused
//	all clients of an address       100                  refused
//	tokens of an address            100                  refused
//	account at an address           10                   refused
//	all accounts of an address      100                  refused
//	account from all addresses      10                   delayed: 1 s, 2 s, 4 s, 8 s, 10 s, 10 s …
//	the same, in one hour           100                  one attempt every 36 s, drawn over networks
//
// An address is an IPv4 address or an IPv6 /64, which is what one subscriber has, and a network
// an IPv4 /24 or an IPv6 /48. Where a client or an account has succeeded before, the failures of
// others do not limit it.
//
// Several servers of one store count each for itself, and each has its Share of these limits.
//
// The counts are in memory and bounded: the newest 10,000 of each kind are kept. An
// attacker with more addresses than that can make the limiters forget, but cannot make
// them grow. A restart forgets all counts.
package limit

import (
	"net/netip"
	"time"

	"keymill/issuer/address"
)

// Limits within a Window.
const (
	Window          = 15 * time.Minute
	ClientFailures  = 10  // of one client at one address
	AccountFailures = 10  // of one account at one address
	AddressFailures = 100 // of one address with all clients, and with all accounts
)

const (
	maxRemembered = 10_000
	maxNameBytes  = 100 // of a name that is kept as it is
)

// An Error refuses an attempt because of earlier failures.
type Error struct {
	RetryAfter time.Duration // more than 0
	Limit      string        // which of the limits, for the log: see LimitClient and below
}

// The limits that an Error names.
const (
	LimitClient           = "client"             // a client at an address, or the clients of an address
	LimitAccountAtAddress = "account_at_address" // an account at an address
	LimitAddress          = "address"            // all accounts of an address
	LimitGuesses          = "guesses"            // the account from all addresses where it has not logged in
	LimitWaiting          = "waiting"            // too many attempts wait
)

// Error implements the error interface.
func (*Error) Error() string { return "too many failed attempts" }

// A nameAt is a client or an account at an address.
type nameAt struct {
	name string
	from netip.Addr
}

// network returns the addresses that one subscriber has: an IPv4 address, or an IPv6 /64.
func network(a netip.Addr) netip.Addr { return address.Subscriber(a) }
