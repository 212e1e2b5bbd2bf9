package issuer

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"

	"keymill/issuer/claim"
	"keymill/issuer/refusal"
)

// backdate is subtracted from iat: clocks differ, and PyJWT 2.6 and later refuse an iat in the future.
const backdate = 5 * time.Second

// tokenType is the header's typ of every access token (RFC 9068, section 2.1).
const tokenType = "at+jwt"

// An entitlement is what a grant decides: which token the client gets.
type entitlement struct {
	subject  string
	client   string
	audience string
	record   *audienceRecord // of the audience
	scope    string
	decided  time.Time // the wall time of the decision, which is iat; zero for that of the signature

	// Only of a user's token.
	family     string // sid
	user       *userRecord
	refresh    refusal.Secret
	refreshFor time.Duration
	graced     bool // see Grant
}

// claims are those of RFC 9068, section 2.2. The custom claims of a user follow them and cannot have
// one of their names.
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Client   string `json:"client_id"`
	Expires  int64  `json:"exp"`
	Issued   int64  `json:"iat"`
	ID       string `json:"jti"`
	Scope    string `json:"scope,omitempty"`
	Session  string `json:"sid,omitempty"`
	Type     string `json:"token_type,omitempty"` // this and the next: simplejwt only
	User     any    `json:"user_id,omitempty"`    // a number if the id is one, else a string
}

// sign makes the tokens of an entitlement. Call it after the transaction, because a signature takes
// longer than everything else.
func (i *Issuer) sign(ctx context.Context, e entitlement) (Grant, error) {
	now := i.keys.WallTime()
	expires := now.Add(e.record.ttl())
	issued := now
	if !e.decided.IsZero() {
		issued = e.decided
	}
	c := claims{
		Issuer: i.url, Subject: e.subject, Audience: e.audience, Client: e.client,
		Expires: expires.Unix(), Issued: issued.Add(-backdate).Unix(), ID: newTokenID(), Scope: e.scope,
	}
	if e.record.Profile == profileSimpleJWT {
		c.Type = "access"
		if e.user != nil {
			c.User = djangoUserID(e.subject)
		}
	}
	c.Session = e.family
	payload, err := json.Marshal(&c)
	if err != nil {
		return Grant{}, err
	}
	if e.user != nil {
		payload = withClaims(payload, e.user.Claims)
	}
	token, err := i.keys.Sign(ctx, e.record.Alg, tokenType, payload, expires)
	if err != nil {
		return Grant{}, err
	}
	g := Grant{
		AccessToken: token, TokenType: "Bearer", ExpiresIn: e.record.TTL, Scope: e.scope,
		Refresh: e.refresh, RefreshFor: e.refreshFor, Alg: e.record.Alg, Graced: e.graced,
	}
	if e.user != nil {
		g.User, g.Session = e.subject, e.family
	}
	return g, nil
}

// withClaims appends the custom claims of a user. They were checked when they were stored. A name that
// a newer version reserves is left out.
func withClaims(payload []byte, claims json.RawMessage) []byte {
	if len(claims) == 0 {
		return payload
	}
	var own map[string]json.RawMessage
	if json.Unmarshal(claims, &own) != nil {
		return payload // cannot happen: it was checked before it was stored
	}
	for name := range own {
		if claim.IsReserved(name) {
			delete(own, name)
		}
	}
	more, err := json.Marshal(own)
	if err != nil || len(own) == 0 {
		return payload
	}
	return append(append(payload[:len(payload)-1], ','), more[1:]...)
}

// maxSafeInteger is 2^53 − 1. Some JSON readers change larger numbers.
const maxSafeInteger = 1<<53 - 1

// djangoUserID returns an id as the claim user_id of simplejwt: a number, if Django's primary key is one.
func djangoUserID(id string) any {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil || n > maxSafeInteger || strconv.FormatUint(n, 10) != id {
		return id
	}
	return n
}

// newTokenID returns 128 random bits.
func newTokenID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
