// Package origin decides which web origins a client may list. There are two kinds. Pages have the
// scheme https or http. Apps are web views and browser extensions, with a scheme of their own:
//
//	kind    example                  /token, /revoke, simplejwt    /session/…
//	page    https://app.example.com  yes                           if it is on the issuer's site
//	app     capacitor://localhost    yes                           no: browsers keep no cookie for it
//
// One rule, Check, is used by client add, by client set and for every request. An origin is written as
// browsers send it in the header Origin (RFC 6454, section 6.2), so that two can be compared byte by
// byte.
package origin

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// MaxBytes is the longest origin that a client may list.
const MaxBytes = 200

// apps maps the scheme of an app to the hosts that it can have. All apps that are built with
// Capacitor, Ionic or Tauri have the same host.
var apps = map[string]*regexp.Regexp{
	"capacitor":        regexp.MustCompile(`^localhost$`),
	"ionic":            regexp.MustCompile(`^localhost$`),
	"tauri":            regexp.MustCompile(`^localhost$`),
	"chrome-extension": regexp.MustCompile(`^[a-p]{32}$`),
	"moz-extension":    regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
}

// Check returns nil if a client may list s. With insecure, pages without TLS may come from any
// host, and otherwise only from loopback. The text of an error follows the origin in a message.
func Check(s string, insecure bool) error {
	u, err := url.Parse(s)
	switch {
	case s == "null":
		return errors.New("cannot be listed: sandboxed frames and local files of any author send it")
	case strings.Contains(s, "*"):
		return errors.New("has a wildcard: list each origin")
	case len(s) > MaxBytes:
		return fmt.Errorf("is longer than %d bytes", MaxBytes)
	case err != nil || s != canonical(u) || !CanonicalHost(u) || !canonicalAddress(u.Hostname()):
		return fmt.Errorf("must be scheme, host and port as a browser sends them, such as %s", example(s, u, insecure))
	case apps[u.Scheme] != nil && apps[u.Scheme].MatchString(u.Host), u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (insecure || isLoopback(u.Hostname())):
		return nil
	case u.Scheme == "http":
		return errors.New("is not encrypted: use https, or set insecure: true to allow http")
	}
	return errors.New("is neither a page (https, http) nor an app: capacitor://localhost, ionic://localhost, " +
		"tauri://localhost, chrome-extension://<32 letters a to p> or moz-extension://<UUID in lower case>")
}

// canonical returns u's scheme, host and port as browsers write them, the default port left out.
func canonical(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// example returns the origin that s means, such as that of a URL with a path. If that cannot be
// listed either, it returns a general example.
func example(s string, u *url.URL, insecure bool) string {
	if u != nil && s != canonical(u) && Check(canonical(u), insecure) == nil {
		return canonical(u)
	}
	return "https://app.example.com"
}

// IsApp reports whether s, which Check accepts, is the origin of an app.
func IsApp(s string) bool {
	scheme, _, found := strings.Cut(s, "://")
	return found && apps[scheme] != nil
}

// CanonicalHost reports whether the host of u, a name or an address and perhaps a port, is written
// as browsers and verifiers write it.
func CanonicalHost(u *url.URL) bool {
	for _, c := range u.Hostname() {
		name := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
		if !name && (c != ':' || !strings.HasPrefix(u.Host, "[")) {
			return false
		}
	}
	if u.Hostname() == "" || strings.HasSuffix(u.Host, ":") {
		return false
	}
	port := u.Port()
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	standard := u.Scheme == "https" && n == 443 || u.Scheme == "http" && n == 80
	return err == nil && n > 0 && !standard && port == strconv.FormatUint(n, 10)
}

// canonicalAddress reports whether host is a name, or an address in the form in which browsers
// write it. To them every host whose last label is a number is an IPv4 address: 127.1 is 127.0.0.1
// (URL standard, section 3.5).
func canonicalAddress(host string) bool {
	short := strings.TrimSuffix(host, ".")
	last := short[strings.LastIndexByte(short, '.')+1:]
	if strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x") && !strings.Contains(host, ":") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.String() == host
}

// isLoopback reports whether browsers load pages of the host from this machine only. Names below
// localhost are among them (RFC 6761, section 6.3); Tauri uses http://tauri.localhost.
func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && address.IsLoopback()
}
