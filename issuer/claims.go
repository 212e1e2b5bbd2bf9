package issuer

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"time"
)

// backdate: PyJWT 2.6 and later refuse an iat in the future, and clocks differ.
const backdate = 5 * time.Second

// tokenType is the header's typ of every access token (RFC 9068, section 2.1).
const tokenType = "at+jwt"

// An entitlement is what a grant decided: who may have which token.
type entitlement struct {
	subject  string
	client   string
	audience string
	terms    *audienceRecord
	scope    string
}

// claims are those of RFC 9068, section 2.2. There is no other way into a token:
// what clients and users bring along cannot name a claim.
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Client   string `json:"client_id"`
	Expires  int64  `json:"exp"`
	Issued   int64  `json:"iat"`
	ID       string `json:"jti"`
	Scope    string `json:"scope,omitempty"`
	Type     string `json:"token_type,omitempty"` // simplejwt only
}

// sign turns an entitlement into a token. No transaction is open any more: a
// signature takes longer than all the rest.
func (i *Issuer) sign(ctx context.Context, e entitlement) (Grant, error) {
	now := i.keys.Stamp()
	expires := now.Add(e.terms.ttl())
	c := claims{
		Issuer: i.url, Subject: e.subject, Audience: e.audience, Client: e.client,
		Expires: expires.Unix(), Issued: now.Add(-backdate).Unix(), ID: newTokenID(), Scope: e.scope,
	}
	if e.terms.Profile == profileSimpleJWT {
		c.Type = "access"
	}
	payload, err := json.Marshal(&c)
	if err != nil {
		return Grant{}, err
	}
	token, err := i.keys.Sign(ctx, e.terms.Alg, tokenType, payload, expires)
	if err != nil {
		return Grant{}, err
	}
	return Grant{AccessToken: token, TokenType: "Bearer", ExpiresIn: e.terms.TTL, Scope: e.scope}, nil
}

// newTokenID returns 128 random bits.
func newTokenID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
