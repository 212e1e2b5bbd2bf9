package jwks

import (
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
	Issuer   string    // iss
	Subject  string    // sub: a user, or the client itself
	Audience []string  // aud
	ClientID string    // client_id
	ID       string    // jti
	Scope    string    // scope: names with one space between
	Family   string    // sid: the login that the token descends from, "" for services
	Expires  time.Time // exp
	IssuedAt time.Time // iat; zero where absent
	From     time.Time // nbf; zero where absent

	KID string // the key that signed
	Alg string // and its algorithm

	Raw json.RawMessage // the payload as it was signed, with claims of other names
}

// HasScope reports whether the token grants scope: that very name, not a part of one.
func (c *Claims) HasScope(scope string) bool {
	return scope != "" && slices.Contains(strings.Split(c.Scope, " "), scope)
}

// readClaims decodes a payload and checks the types of what it knows. Values are
// judged by meet.
func readClaims(payload []byte) (*Claims, error) {
	members, err := parseObject(payload)
	if err != nil {
		return nil, err
	}
	if err := members.deep(); err != nil {
		return nil, err
	}
	c := &Claims{Raw: payload}
	for name, into := range map[string]*string{
		"iss": &c.Issuer, "sub": &c.Subject, "client_id": &c.ClientID,
		"jti": &c.ID, "scope": &c.Scope, "sid": &c.Family,
	} {
		if *into, err = members.text(name); err != nil {
			return nil, err
		}
	}
	for name, into := range map[string]*time.Time{
		"exp": &c.Expires, "iat": &c.IssuedAt, "nbf": &c.From,
	} {
		if *into, err = members.instant(name); err != nil {
			return nil, err
		}
	}
	if value, given := members["aud"]; given {
		if c.Audience, err = asTexts(value); err != nil {
			return nil, fmt.Errorf("aud is %w", err)
		}
	}
	return c, nil
}

// instant reads a NumericDate (RFC 7519, section 2): seconds since 1970, fractions
// allowed; zero where the claim is absent. Years past 9999 are no date of a token but
// a number on its way to overflow.
func (o object) instant(name string) (time.Time, error) {
	value, given := o[name]
	if !given {
		return time.Time{}, nil
	}
	const year10000 = 253402300800
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || !(seconds >= 0 && seconds < year10000) {
		return time.Time{}, errors.New(name + " is not a time in seconds")
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
	if now.Add(leeway).Before(c.From) {
		return fmt.Errorf("%w: nbf is %s, now is %s", ErrNotYet, stamp(c.From), stamp(now))
	}
	if now.Add(leeway).Before(c.IssuedAt) {
		return fmt.Errorf("%w: iat is %s, now is %s", ErrNotYet, stamp(c.IssuedAt), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
