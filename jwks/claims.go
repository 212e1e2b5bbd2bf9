package jwks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/jwks/internal/strictjson"
)

// Claims are the claims of a verified token (RFC 9068, section 2.2).
type Claims struct {
	Issuer    string    // iss
	Subject   string    // sub: a user, or the client itself
	Audience  []string  // aud
	ClientID  string    // client_id
	ID        string    // jti
	Scope     string    // scope: names, separated by one space
	SessionID string    // sid: the login that the token belongs to; "" if no user logged in
	Expires   time.Time // exp
	IssuedAt  time.Time // iat; zero if absent
	NotBefore time.Time // nbf; zero if absent

	KID  string // the key that signed the token
	Alg  string // the algorithm of that key
	Type string // TypeAccessToken or TypeJWT

	Raw json.RawMessage // the payload as it was signed, with every other claim
}

// HasScope reports whether the token grants scope (RFC 6749, section 3.3). Scopes are
// compared as whole words.
func (c *Claims) HasScope(scope string) bool {
	if c == nil || scope == "" {
		return false
	}
	for granted := range strings.SplitSeq(c.Scope, " ") {
		if granted == scope {
			return true
		}
	}
	return false
}

// Grants returns nil if the token grants all of scopes. Otherwise it returns a Failure with
// ErrScope that names the first missing scope. Nil claims grant nothing.
func (c *Claims) Grants(scopes ...string) error {
	if c == nil {
		return fail(StepScope, strings.Join(scopes, " "), "", "there is no token")
	}
	for _, scope := range scopes {
		if !c.HasScope(scope) {
			return fail(StepScope, strings.Join(scopes, " "), c.Scope, "the token does not grant %q", clip(scope))
		}
	}
	return nil
}

// clone returns a copy that shares no memory which a caller could change.
func (c *Claims) clone() *Claims {
	out := *c
	out.Audience, out.Raw = slices.Clone(c.Audience), bytes.Clone(c.Raw)
	return &out
}

// readClaims decodes the known claims of a payload and checks their types. It does not check
// their values.
func readClaims(payload []byte) (*Claims, error) {
	c := &Claims{Raw: payload}
	// The payload is copied once. Every string of the claims is a part of that copy.
	err := strictjson.Scan(string(payload), strictRules, func(name, raw string) (err error) {
		switch name {
		case "iss":
			c.Issuer, err = strictjson.Text(raw)
		case "sub":
			c.Subject, err = strictjson.Text(raw)
		case "aud":
			c.Audience, err = strictjson.Texts(raw)
		case "client_id":
			c.ClientID, err = strictjson.Text(raw)
		case "jti":
			c.ID, err = strictjson.Text(raw)
		case "scope":
			c.Scope, err = strictjson.Text(raw)
		case "sid":
			c.SessionID, err = strictjson.Text(raw)
		case "exp":
			c.Expires, err = asInstant(raw)
		case "iat":
			c.IssuedAt, err = asInstant(raw)
		case "nbf":
			c.NotBefore, err = asInstant(raw)
		}
		if err != nil {
			return fmt.Errorf("%s is %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// asInstant reads a NumericDate (RFC 7519, section 2): seconds since 1970, with fractions. It
// refuses years after 9999. No token needs them, and much larger numbers would overflow.
func asInstant(raw string) (time.Time, error) {
	const year10000 = 253402300800
	seconds, err := strconv.ParseFloat(raw, 64)
	if err != nil || !(seconds >= 0 && seconds < year10000) {
		return time.Time{}, errors.New("not a time in seconds")
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), nil
}

// expectClaims is what StepClaimTypes and StepClaims expect, as people read it.
const expectClaims = "sub, client_id, exp, each of its type"

// check compares the claims of a token with want. Its signature has been verified.
func (c *Claims) check(want Expectation, now time.Time) error {
	missing := func(what string) error { return fail(StepClaims, expectClaims, what, "%s", what) }
	switch {
	case c.Issuer != want.Issuer:
		return fail(StepIssuer, want.Issuer, c.Issuer, "%q, not %q", clip(c.Issuer), clip(want.Issuer))
	case !slices.Contains(c.Audience, want.Audience):
		audience := strings.Join(c.Audience, " ")
		return fail(StepAudience, want.Audience, audience, "%q, not %q", clip(audience), clip(want.Audience))
	case c.Subject == "":
		return missing("sub is missing or empty")
	case c.ClientID == "":
		return missing("client_id is missing or empty")
	case c.Expires.IsZero():
		return missing("exp is missing")
	}
	return c.checkTime(want.Leeway, now)
}

// checkTime checks that the token is valid at the time now: not before nbf and iat, and
// before exp. leeway widens the interval at both ends.
func (c *Claims) checkTime(leeway time.Duration, now time.Time) error {
	outside := func(step Step, bound, found string, at time.Time) error {
		return fail(step, bound+" "+formatTime(at), "now "+formatTime(now), "%s %s, now is %s", found, formatTime(at), formatTime(now))
	}
	switch {
	case !now.Before(c.Expires.Add(leeway)):
		return outside(StepExpiry, "before exp", "exp was", c.Expires)
	case now.Add(leeway).Before(c.NotBefore):
		return outside(StepNotBefore, "from nbf", "nbf is", c.NotBefore)
	case now.Add(leeway).Before(c.IssuedAt):
		return outside(StepNotBefore, "from iat", "iat is", c.IssuedAt)
	}
	return nil
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
