package issuer

import (
	"context"
	"encoding/json"
	"time"

	"keymill/issuer/claim"
	"keymill/issuer/profile"
	"keymill/issuer/refusal"
)

// backdate is subtracted from iat: clocks differ, and PyJWT 2.6 and later refuse an iat in the future.
const backdate = 5 * time.Second

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

// sign makes the tokens of an entitlement. Call it after the transaction, because a signature takes
// longer than everything else.
func (i *Issuer) sign(ctx context.Context, e entitlement) (Grant, error) {
	now := i.keys.WallTime()
	expires := now.Add(e.record.Lifetime())
	issued := now
	if !e.decided.IsZero() {
		issued = e.decided
	}
	c := claim.Token{
		Issuer: i.url, Subject: e.subject, Audience: e.audience, Client: e.client, Session: e.family,
		Expires: expires.Unix(), Issued: issued.Add(-backdate).Unix(), ID: claim.NewTokenID(), Scope: e.scope,
	}
	var own json.RawMessage
	if e.user != nil {
		own = e.user.Claims
	}
	if p, _ := profile.Find(e.record.Profile); p.Django {
		c.Type = "access"
		if e.user != nil {
			c.User = claim.DjangoUserID(e.subject)
		}
	}
	payload, err := c.Payload(own)
	if err != nil {
		return Grant{}, err
	}
	token, err := i.mint(ctx, mintable{use: accessToken, audience: e.audience, record: e.record, alg: e.record.Alg, payload: payload, expires: expires})
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
