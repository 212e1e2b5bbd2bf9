package origin

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// CheckIssuer accepts an issuer: an https URL of scheme and host, perhaps with a path, and nothing else, or http where
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
	case strings.HasSuffix(u.Path, "/") && u.RawQuery == "" && u.Fragment == "":
		return fmt.Errorf("issuer %q must not end with a slash: verifiers compare it byte for byte with the tokens, and with and without the slash are two issuers", s)
	case !strings.HasPrefix(s, u.Scheme+"://"+strings.ToLower(u.Host)):
		return fmt.Errorf("issuer %q must have its scheme and host in lower case", s)
	case s != u.Scheme+"://"+u.Host+u.Path:
		return fmt.Errorf("issuer %q must be scheme, host and perhaps a path, without escapes, query and fragment", s)
	case !CanonicalHost(u):
		return fmt.Errorf("issuer %q: the host must be a name or an address; a port must be 1 to 65535, and the default port must be left out", s)
	case u.Scheme == "http" && !insecure && !loopback(u.Hostname()):
		return fmt.Errorf("issuer %q must use https; set insecure: true to allow http, which sends tokens unencrypted", s)
	}
	if u.Path == "" {
		return nil
	}
	if err := CheckPath(u.Path); err != nil {
		return fmt.Errorf("issuer %q: the path %w", s, err)
	}
	return nil
}

// OfIssuer returns the origin of an issuer that CheckIssuer accepts, and its path, which is "" or like "/auth".
func OfIssuer(issuer string) (origin, path string) {
	scheme, rest, _ := strings.Cut(issuer, "://")
	host, path, found := strings.Cut(rest, "/")
	if found {
		path = "/" + path
	}
	return scheme + "://" + host, path
}

// CheckPath returns nil if requests can be served below path, such as "/api" or "/auth/v1". Its parts have letters,
// digits, '-', '_' and '.', which neither the router nor URLs treat specially. The text of the error follows the path
// in a message.
func CheckPath(path string) error {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return errors.New("does not begin with a slash")
	}
	if strings.HasSuffix(path, "/") {
		return errors.New("ends with a slash")
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || part[0] == '.' || strings.IndexFunc(part, notPlain) >= 0 {
			return errors.New("must consist of parts of letters, digits, '-', '_' and '.', none of them empty or beginning with a dot")
		}
	}
	return nil
}

func notPlain(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
}
