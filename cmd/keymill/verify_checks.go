package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keymill/jwks"
)

// How a check ended.
const (
	passed     = "ok"
	failed     = "FAILED"
	notReached = "not reached"
	unknown    = "unknown" // it was judged, and the failure does not say how
)

// A check is a line of the list. The verdict is the verifier's: its error says where it
// stopped, and the order says the rest.
type check struct {
	name            string
	errs            []error // that end here
	expected, found string
	result          string
}

// checks lists what was checked, in the order of jwks.Check.
func (v *verification) checks() []check {
	list := []check{
		v.formCheck(), v.headerCheck(), v.algorithmCheck(),
		v.typeCheck(), v.keyCheck(), v.signatureCheck(),
		{name: "issuer", errs: []error{jwks.ErrIssuer}, expected: v.issuer, found: shown(v.says.claims, "iss")},
		{name: "audience", errs: []error{jwks.ErrAudience}, expected: v.audience, found: v.audiences()},
		v.claimsCheck(), v.lifetimeCheck(),
	}
	if len(v.scopes) > 0 {
		list = append(list, check{name: "scope", errs: []error{jwks.ErrScope},
			expected: strings.Join(v.scopes, " "), found: shown(v.says.claims, "scope")})
	}
	stop := slices.IndexFunc(list, func(c check) bool { return v.failedAt(c.errs) })
	for i := range list {
		list[i].end(v.resultAt(i, stop, list[i].name))
	}
	return list
}

// resultAt is that of check i if the verifier stopped at another one. Two failures may be
// found at two places, and do not say at which: claims are judged for their form before the
// issuer and for their presence after the audience. An algorithm that is not the key's is
// found after the type.
func (v *verification) resultAt(i, stop int, name string) string {
	switch {
	case v.err == nil:
		return passed
	case i == stop:
		return failed
	case errors.Is(v.err, jwks.ErrClaims) && (name == "issuer" || name == "audience"):
		return unknown
	case errors.Is(v.err, jwks.ErrAlgorithm) && v.allowed() && name == "type", i < stop:
		return passed
	}
	return notReached
}

func (c *check) end(result string) {
	c.result, c.found = result, clipped(c.found)
	switch result {
	case notReached, unknown:
		c.expected, c.found = "", ""
	case passed, failed:
		c.found = cmp.Or(c.found, "none")
	}
}

func (v *verification) failedAt(errs []error) bool {
	return slices.ContainsFunc(errs, func(e error) bool { return errors.Is(v.err, e) })
}

func (v *verification) formCheck() check {
	c := check{name: "form", errs: []error{jwks.ErrMalformed}, expected: "3 parts of base64url, at most 16384 bytes",
		found: fmt.Sprintf("%d parts, %d bytes", v.says.parts, len(v.token))}
	if v.failedAt(c.errs) {
		c.found = v.detail(jwks.ErrMalformed)
	}
	return c
}

func (v *verification) headerCheck() check {
	c := check{name: "header", errs: []error{jwks.ErrHeader}, expected: "no crit, b64, zip, enc; no token inside", found: "none of them"}
	if v.failedAt(c.errs) {
		c.found = v.detail(jwks.ErrHeader)
	}
	return c
}

func (v *verification) typeCheck() check {
	return check{name: "type", errs: []error{jwks.ErrType}, expected: "at+jwt", found: shown(v.says.header, "typ")}
}

// algorithmCheck tells two failures apart that jwks gives one name: an algorithm that the
// service does not allow, and one that the named key is not for.
func (v *verification) algorithmCheck() check {
	c := check{name: "algorithm", errs: []error{jwks.ErrAlgorithm}, expected: strings.Join(v.algorithms, ", "), found: shown(v.says.header, "alg")}
	if key, found := v.namedKey(); found && v.failedAt(c.errs) && v.allowed() {
		c.expected = key.Alg + ", which the key is for"
	}
	return c
}

// allowed reports whether the service allows what the header calls alg, by both names of
// EdDSA.
func (v *verification) allowed() bool {
	alg := oneName(text(v.says.header, "alg"))
	return slices.ContainsFunc(v.algorithms, func(a string) bool { return oneName(a) == alg })
}

func oneName(alg string) string {
	if alg == "Ed25519" {
		return jwks.EdDSA
	}
	return alg
}

func (v *verification) keyCheck() check {
	c := check{name: "key", errs: []error{jwks.ErrUnknownKey}, expected: "a kid", found: shown(v.says.header, "kid")}
	if v.keysMattered() {
		c.expected = fmt.Sprintf("one of the %d in the set", len(v.keys.Keys))
	}
	return c
}

func (v *verification) signatureCheck() check {
	c := check{name: "signature", errs: []error{jwks.ErrSignature}, expected: "by that key", found: "by that key"}
	if v.failedAt(c.errs) {
		c.found = "not by that key, or the token was changed"
	}
	return c
}

func (v *verification) claimsCheck() check {
	c := check{name: "claims", errs: []error{jwks.ErrClaims}, expected: "sub, client_id, exp, each of its type", found: "all there"}
	if v.failedAt(c.errs) {
		c.found = v.detail(jwks.ErrClaims)
	}
	return c
}

// lifetimeCheck shows the bound that was broken, or else the one that comes next.
func (v *verification) lifetimeCheck() check {
	c := check{name: "lifetime", errs: []error{jwks.ErrExpired, jwks.ErrNotYet}}
	exp, now := v.says.instant("exp"), v.clock()
	bound, word, found := exp, "before exp", v.left(exp, " left")
	switch {
	case errors.Is(v.err, jwks.ErrNotYet):
		bound, word = v.begins()
		found = span(bound.Sub(now)) + " too early"
	case errors.Is(v.err, jwks.ErrExpired):
		found = span(now.Sub(exp)) + " too late"
	}
	c.expected = word + " " + instant(&bound)
	if v.leeway > 0 {
		c.expected += " (leeway " + v.leeway.String() + ")"
	}
	c.found = "now " + instant(&now) + ", " + found
	return c
}

// left is how long a token that was accepted lives on; from exp on only the leeway keeps it.
func (v *verification) left(exp time.Time, word string) string {
	now := v.clock()
	if v.leeway > 0 && !now.Before(exp) {
		return span(now.Sub(exp)) + " past exp, within the leeway"
	}
	return span(max(0, exp.Sub(now))) + word
}

// clock is now as it is shown, so that what is shown adds up.
func (v *verification) clock() time.Time { return v.now.UTC().Truncate(time.Second) }

// begins is the later of nbf and iat: before both, a token is not valid yet.
func (v *verification) begins() (time.Time, string) {
	nbf, iat := v.says.instant("nbf"), v.says.instant("iat")
	if nbf.After(iat) {
		return nbf, "from nbf"
	}
	return iat, "from iat"
}

func (v *verification) audiences() string {
	if list := v.says.list("aud"); list != nil {
		return strings.Join(list, " ")
	}
	return shown(v.says.claims, "aud")
}

// namedKey is the key of the set that the token's header names.
func (v *verification) namedKey() (jwks.Key, bool) {
	kid := text(v.says.header, "kid")
	at := slices.IndexFunc(v.keys.Keys, func(k jwks.Key) bool { return k.KID == kid })
	if at < 0 {
		return jwks.Key{}, false
	}
	return v.keys.Keys[at], true
}

// signed reports whether the signature holds, though the token may be refused: every
// later check speaks of claims that the issuer has signed.
func (v *verification) signed() bool {
	for _, c := range v.checks() {
		if c.name == "signature" {
			return c.result == passed
		}
	}
	return false
}

// detail is what the verifier found, without the name of the failure before it.
func (v *verification) detail(failure error) string {
	return strings.TrimPrefix(v.err.Error(), failure.Error()+": ")
}

// failedCheck names the check for programs; people read the reason.
func failedCheck(err error) string {
	for _, c := range []struct {
		err  error
		name string
	}{
		{jwks.ErrMalformed, "form"},
		{jwks.ErrHeader, "header"},
		{jwks.ErrType, "type"},
		{jwks.ErrAlgorithm, "algorithm"},
		{jwks.ErrUnknownKey, "key"},
		{jwks.ErrSignature, "signature"},
		{jwks.ErrIssuer, "issuer"},
		{jwks.ErrAudience, "audience"},
		{jwks.ErrExpired, "expired"},
		{jwks.ErrNotYet, "not_yet"},
		{jwks.ErrClaims, "claims"},
		{jwks.ErrScope, "scope"},
		{jwks.ErrUnavailable, "key_set"},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "other"
}

// span is a length of time in whole seconds; what is shorter must not read as none.
func span(d time.Duration) string {
	if d >= 0 && d < time.Second {
		return "under 1s"
	}
	return d.Round(time.Second).String()
}
