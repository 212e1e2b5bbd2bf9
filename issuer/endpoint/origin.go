package endpoint

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

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
	if len(sent) > 1 || len(sent) == 1 && sent[0] != own && !slices.Contains(listed, sent[0]) {
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

// checkApp refuses an app at the browser endpoint. An app is never on the issuer's site, so the browser
// keeps no cookie for it (RFC 6265bis, section 5.2), and it would lose its session at once.
func checkApp(r *http.Request) error {
	sent := r.Header.Get("Origin")
	if !origin.IsApp(sent) {
		return nil
	}
	return newStatusError(http.StatusForbidden, "access_denied",
		sent+" is the origin of an app or an extension, for which browsers keep no session cookie: log in at the simplejwt endpoint")
}
