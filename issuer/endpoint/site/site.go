// Package site says which pages are on the issuer's site. Browsers keep the cookie of the browser
// endpoint only for those, because it has SameSite=Strict (RFC 6265bis, section 5.2).
//
//	page                      issuer                    the same site
//	https://app.example.com   https://id.example.com    yes
//	https://app.example.org   https://id.example.com    no, another registrable domain
//	http://app.example.com    https://id.example.com    no, another scheme
//	https://alice.github.io   https://bob.github.io     no, github.io is a public suffix
//	http://127.0.0.1:5173     http://127.0.0.1:8420     yes
//	http://localhost:5173     http://127.0.0.1:8420     no, another host
//	capacitor://localhost     any                       no, it is an app
//
// The list of public suffixes is as old as this build, and that of a browser is newer. So what a
// browser says in Sec-Fetch-Site decides about a request, and this package gives advice.
package site

import (
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"keymill/issuer/origin"
)

// Same reports whether two origins are the same site, as the HTML standard defines it: their
// schemes and their registrable domains are equal, or their hosts if these have no registrable
// domain. Ports do not matter.
func Same(a, b string) bool { return of(a) == of(b) }

// of returns the scheme of an origin with its registrable domain. Addresses, names of one label and
// public suffixes have no registrable domain. A dot at the end belongs to the name.
func of(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	host := strings.TrimSuffix(u.Host, ":"+u.Port())
	name := strings.TrimSuffix(u.Hostname(), ".")
	if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		host = domain + host[len(name):]
	}
	return u.Scheme + "://" + host
}

// NoCookie says why pages of an origin on another site than the issuer cannot use the browser
// endpoint, and what to do.
func NoCookie(page, issuer string) string {
	if origin.IsApp(page) {
		return fmt.Sprintf("%s is the origin of an app or an extension, for which browsers keep no session cookie of %s: "+
			"log in at the simplejwt endpoint", page, issuer)
	}
	return fmt.Sprintf("browsers treat %s as another site than %s and keep no session cookie for its pages: "+
		"serve them from the site %s, or log in at the simplejwt endpoint", page, issuer, of(issuer))
}

// Warnings returns NoCookie for each of the origins that is on another site than the issuer.
func Warnings(origins []string, issuer string) []string {
	var list []string
	for _, o := range origins {
		if !Same(o, issuer) {
			list = append(list, NoCookie(o, issuer))
		}
	}
	return list
}
