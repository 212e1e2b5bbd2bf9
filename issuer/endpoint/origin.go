package endpoint

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"keymill/issuer/endpoint/site"
	"keymill/issuer/origin"
)

// An originCheck refuses requests that pages of other origins send: they could use the
// visitor's cookie, or log the visitor in as another user. SameSite=Strict alone does not
// prevent that, because every port of a host and every subdomain of its domain is the same
// site. The check is http.CrossOriginProtection with the issuer's origin and those that the
// client lists at the time. In addition, an Origin header must be one of them, because
// CrossOriginProtection accepts a page of http://host where https://host is trusted.
type originCheck struct {
	built atomic.Pointer[builtCheck]
}

type builtCheck struct {
	origins    []string
	protection *http.CrossOriginProtection
}

func (c *originCheck) check(r *http.Request, own string, listed []string) error {
	sent := r.Header["Origin"]
	if len(sent) == 1 && sent[0] != own && !slices.Contains(listed, sent[0]) {
		return originError(notListed, sent...)
	}
	protection, err := c.protection(own, listed)
	if err != nil {
		return err
	}
	if err := protection.Check(r); err != nil {
		return originError(notListed, sent...)
	}
	return nil
}

// protection builds a CrossOriginProtection again only when the client's list has changed.
func (c *originCheck) protection(own string, listed []string) (*http.CrossOriginProtection, error) {
	if b := c.built.Load(); b != nil && slices.Equal(b.origins, listed) {
		return b.protection, nil
	}
	b := &builtCheck{slices.Clone(listed), http.NewCrossOriginProtection()}
	for _, trusted := range append([]string{own}, listed...) {
		if err := b.protection.AddTrustedOrigin(trusted); err != nil {
			return nil, err
		}
	}
	c.built.Store(b)
	return b.protection, nil
}

const notListed = "pages of this origin may not use this path"

// originError names the origins only for the log: they are not checked.
func originError(description string, origins ...string) error {
	refused := newStatusError(http.StatusForbidden, "access_denied", description)
	refused.Cause = fmt.Errorf("origin %q", short(strings.Join(origins, ", ")))
	return refused
}

// checkSite refuses requests of pages for which the browser keeps no cookie of the issuer, because
// they are on another site (RFC 6265bis, section 5.2). Without this check a login would succeed, and
// the page would lose its session at once. The browser says so in Sec-Fetch-Site (Fetch Metadata
// Request Headers, section 2.3). It sends that header only to https and loopback; without it nothing
// is refused, because a proxy on the page's own origin may forward the request. An app is always
// another site, even if an extension has a permission for the issuer's host.
func checkSite(r *http.Request, issuerURL string) error {
	sent := r.Header.Get("Origin")
	if r.Header.Get("Sec-Fetch-Site") != "cross-site" && !origin.IsApp(sent) {
		return nil
	}
	return newStatusError(http.StatusForbidden, "access_denied", site.NoCookie(sent, issuerURL))
}
