package config

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// serviceLinks holds the forms of the variables that Kubernetes puts into every container of a
// namespace for each Service in it, and what their values are like. A Service with the name
// keymill, or keymill-web, gives variables that begin as ours do. Examples are in the test.
var serviceLinks = []struct {
	name *regexp.Regexp
	fits func(value string) bool
}{
	{serviceLink(`_SERVICE_HOST`), isAddress},
	{serviceLink(`_SERVICE_PORT(_[A-Z0-9_]+)?`), isPort}, // with the name of the port
	{serviceLink(`_PORT`), isEndpoint},
	{serviceLink(`_PORT_[0-9]+_(TCP|UDP|SCTP)`), isEndpoint},
	{serviceLink(`_PORT_[0-9]+_(TCP|UDP|SCTP)_PROTO`), isProtocol},
	{serviceLink(`_PORT_[0-9]+_(TCP|UDP|SCTP)_PORT`), isPort},
	{serviceLink(`_PORT_[0-9]+_(TCP|UDP|SCTP)_ADDR`), isAddress},
}

func serviceLink(end string) *regexp.Regexp {
	return regexp.MustCompile(`^KEYMILL(_[A-Z0-9_]+)?` + end + `$`)
}

// isServiceLink reports whether Kubernetes set the variable for a Service. The value must fit
// as well: KEYMILL_PORT=8420 is a mistake of an operator who expects that it sets the port.
func isServiceLink(name, value string) bool {
	for _, link := range serviceLinks {
		if link.name.MatchString(name) && link.fits(value) {
			return true
		}
	}
	return false
}

// isEndpoint reports whether value is like tcp://10.0.0.7:80 or udp://[fd00::7]:53.
func isEndpoint(value string) bool {
	protocol, address, ok := strings.Cut(value, "://")
	_, err := netip.ParseAddrPort(address)
	return ok && err == nil && isProtocol(protocol)
}

func isProtocol(value string) bool { return value == "tcp" || value == "udp" || value == "sctp" }

func isPort(value string) bool {
	_, err := strconv.ParseUint(value, 10, 16)
	return err == nil
}

func isAddress(value string) bool {
	_, err := netip.ParseAddr(value)
	return err == nil
}
