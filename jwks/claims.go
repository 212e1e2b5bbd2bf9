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
)

// Claims are what a checked token says (RFC 9068, section 2.2).
type Claims struct {
	Issuer    string    // iss
	Subject   string    // sub: a user, or the client itself
	Audience  []string  // aud
	ClientID  string    // client_id
	ID        string    // jti
	Scope     string    // scope: names with one space between
	SessionID string    // sid: the login that the token belongs to, "" for a service
	Expires   time.Time // exp
	IssuedAt  time.Time // iat; zero where absent
	NotBefore time.Time // nbf; zero where absent

	KID string // the key that signed
	Alg string // and its algorithm

	Raw json.RawMessage // the payload as it was signed, with claims of other names
}

// HasScope reports whether the token grants scope (RFC 6749, section 3.3): that very name,
// not a part of one.
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

// Grants returns nil if the token grants all of scopes, and otherwise an ErrScope that
// names the first that is missing. Without a token nothing is granted.
func (c *Claims) Grants(scopes ...string) error {
	if c == nil {
		return fmt.Errorf("%w: there is no token", ErrScope)
	}
	for _, scope := range scopes {
		if !c.HasScope(scope) {
			return fmt.Errorf("%w %q", ErrScope, clip(scope))
		}
	}
	return nil
}

// clone shares nothing with c that a caller could alter.
func (c *Claims) clone() *Claims {
	out := *c
	out.Audience, out.Raw = slices.Clone(c.Audience), bytes.Clone(c.Raw)
	return &out
}

// readClaims decodes what it knows of a payload, and checks the types. Values are
// judged by meet.
func readClaims(payload []byte) (*Claims, error) {
	c := &Claims{Raw: payload}
	// One copy, of which all texts are parts.
	err := scanObject(string(payload), strictRules, func(name, raw string) (err error) {
		switch name {
		case "iss":
			c.Issuer, err = asText(raw)
		case "sub":
			c.Subject, err = asText(raw)
		case "aud":
			c.Audience, err = asTexts(raw)
		case "client_id":
			c.ClientID, err = asText(raw)
		case "jti":
			c.ID, err = asText(raw)
		case "scope":
			c.Scope, err = asText(raw)
		case "sid":
			c.SessionID, err = asText(raw)
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

// asInstant reads a NumericDate (RFC 7519, section 2): seconds since 1970, fractions
// allowed. Years past 9999 are no date of a token but a number on its way to overflow.
func asInstant(raw string) (time.Time, error) {
	const year10000 = 253402300800
	seconds, err := strconv.ParseFloat(raw, 64)
	if err != nil || !(seconds >= 0 && seconds < year10000) {
		return time.Time{}, errors.New("not a time in seconds")
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), nil
}

// meet judges claims whose signature holds.
func (c *Claims) meet(want Expectation, now time.Time) error {
	switch {
	case c.Issuer != want.Issuer:
		return fmt.Errorf("%w: %q, not %q", ErrIssuer, clip(c.Issuer), clip(want.Issuer))
	case !slices.Contains(c.Audience, want.Audience):
		return fmt.Errorf("%w: %q, not %q", ErrAudience, clip(strings.Join(c.Audience, " ")), clip(want.Audience))
	case c.Subject == "":
		return fmt.Errorf("%w: sub is missing or empty", ErrClaims)
	case c.ClientID == "":
		return fmt.Errorf("%w: client_id is missing or empty", ErrClaims)
	case c.Expires.IsZero():
		return fmt.Errorf("%w: exp is missing", ErrClaims)
	}
	return c.live(want.Leeway, now)
}

// live says whether now lies within the token's life: [nbf and iat, exp), each bound
// moved outward by leeway.
func (c *Claims) live(leeway time.Duration, now time.Time) error {
	if !now.Before(c.Expires.Add(leeway)) {
		return fmt.Errorf("%w: exp was %s, now is %s", ErrExpired, stamp(c.Expires), stamp(now))
	}
	if now.Add(leeway).Before(c.NotBefore) {
		return fmt.Errorf("%w: nbf is %s, now is %s", ErrNotYet, stamp(c.NotBefore), stamp(now))
	}
	if now.Add(leeway).Before(c.IssuedAt) {
		return fmt.Errorf("%w: iat is %s, now is %s", ErrNotYet, stamp(c.IssuedAt), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
