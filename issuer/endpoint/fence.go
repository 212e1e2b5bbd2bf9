package endpoint

import (
	"net/http"
	"slices"
	"sync/atomic"

	"keymill/issuer/refusal"
)

// A fence keeps pages of other origins from using the cookie of a visitor, also from
// logging them in as somebody else. SameSite=Strict alone would not: every port of a host
// and every subdomain of its domain is the same site. The rule is that of
// http.CrossOriginProtection over the origins that the client lists at the time, and
// beyond it: an Origin that is sent must be the issuer's or listed, because
// CrossOriginProtection takes a page of http://host for one of https://host.
type fence struct {
	built atomic.Pointer[builtFence]
}

type builtFence struct {
	origins    []string
	protection *http.CrossOriginProtection
}

func (f *fence) check(r *http.Request, own string, listed []string) error {
	sent := r.Header["Origin"]
	if len(sent) > 1 || len(sent) == 1 && sent[0] != own && !slices.Contains(listed, sent[0]) {
		return errOrigin
	}
	protection, err := f.protection(own, listed)
	if err != nil {
		return err
	}
	if err := protection.Check(r); err != nil {
		return errOrigin
	}
	return nil
}

// protection builds a new one when the client's list has changed.
func (f *fence) protection(own string, listed []string) (*http.CrossOriginProtection, error) {
	if b := f.built.Load(); b != nil && slices.Equal(b.origins, listed) {
		return b.protection, nil
	}
	b := &builtFence{slices.Clone(listed), http.NewCrossOriginProtection()}
	for _, origin := range append([]string{own}, listed...) {
		if err := b.protection.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
	}
	f.built.Store(b)
	return b.protection, nil
}

var errOrigin = &statusError{http.StatusForbidden, 0,
	refusal.New("access_denied", "pages of this origin may not use this path")}
