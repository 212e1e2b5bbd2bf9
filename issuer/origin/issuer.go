package origin

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// CheckIssuer accepts an issuer: an https URL of scheme and host and nothing else, or http where
// insecure or loopback allows it.
func CheckIssuer(s string, insecure bool, loopback func(host string) bool) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return errors.New("the issuer is not set: set it to this server's public URL, such as https://auth.example.com")
	case strings.Contains(s, "@"): // first, because the other errors repeat s
		return errors.New("the issuer must not hold a user or a password")
	case err != nil || u.Host == "" || strings.ContainsFunc(s, func(c rune) bool { return c <= 0x20 || c >= 0x7f }):
		return fmt.Errorf("issuer %q is not a URL such as https://auth.example.com", s)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("issuer %q: the scheme must be https", s)
	case s != u.Scheme+"://"+strings.ToLower(u.Host):
		return fmt.Errorf("issuer %q must be scheme and host in lower case, without path, query, fragment or trailing slash", s)
	case !CanonicalHost(u):
		return fmt.Errorf("issuer %q: the host must be a name or an address; a port must be 1 to 65535, and the default port must be left out", s)
	case u.Scheme == "http" && !insecure && !loopback(u.Hostname()):
		return fmt.Errorf("issuer %q must use https; set insecure: true to allow http, which sends tokens unencrypted", s)
	}
	return nil
}
