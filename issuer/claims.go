package issuer

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/profile"
	"keymill/issuer/refusal"
	"keymill/storage"
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

	claims json.RawMessage // of the client, in a token of its own

	// Only of a user's token.
	family     string // sid
	user       *userRecord
	refresh    refusal.Secret
	refreshFor time.Duration
	graced     bool // see Grant
}

// sayLeftOut logs claims that another one of the same name has kept out of a token, once for each name and audience
// since the start: nothing else tells why a service does not get a claim, and each token would say it again.
func (i *Issuer) sayLeftOut(e entitlement, left []claim.LeftOut) {
	for _, l := range left {
		if i.leftOut.First(e.audience + "/" + l.Of + "/" + l.Name) {
			i.log.Warn("a claim was left out of a token, because the audience or the client has one of the same name",
				"claim", l.Name, "of", l.Of, "subject", e.subject, "client", e.client, "audience", e.audience)
		}
	}
}

// checkClaimsOf refuses a claim of a client that is also one of an audience of the client.
func (i *Issuer) checkClaimsOf(r storage.Reader, client *clientRecord) error {
	if len(client.Claims) == 0 {
		return nil
	}
	for _, name := range client.Audiences {
		rec, err := i.audienceOf(r, name)
		if err != nil {
			return err
		}
		if rec == nil { // linkAudiences refuses it
			continue
		}
		if same := claim.Common(client.Claims, rec.Claims); same != "" {
			return refusal.New("invalid_request", "claim '%s' is also one of audience %s, whose claim every token has: leave it out here, or remove it there", refusal.Quoted(same), name)
		}
	}
	return nil
}

// checkClaimsFor refuses a claim of an audience that is also one of a client of the audience. It reads the clients
// before the change, page by page: more than one transaction can. What a client gets in the meantime is left out
// of tokens, see sayLeftOut.
func (i *Issuer) checkClaimsFor(ctx context.Context, audience string, claims api.Claims) error {
	raw, err := claim.CheckFlat(claims)
	for after := ""; err == nil && len(raw) > 0; {
		var page []api.Client
		if page, err = i.Clients(ctx, after, maxListed); err != nil || len(page) == 0 {
			return err
		}
		for _, c := range page {
			if !slices.Contains(c.Audiences, audience) {
				continue
			}
			own, err := claim.CheckFlat(c.Claims)
			if same := claim.Common(raw, own); err == nil && same != "" {
				return refusal.New("invalid_request", "claim '%s' is also one of client %s: leave it out here, or remove it there", refusal.Quoted(same), c.ID)
			}
		}
		after = page[len(page)-1].ID
	}
	return err
}

// sign makes the tokens of an entitlement. Call it after the transaction, because a signature takes
// longer than everything else.
func (i *Issuer) sign(ctx context.Context, e entitlement) (Grant, error) {
	return i.say(i.signQuietly(ctx, e))
}

// A signature is what signing an entitlement gave.
type signature struct {
	of      entitlement
	grant   Grant
	err     error
	leftOut []claim.LeftOut // of the claims
}

// say logs what an operator has to know of the signature, and returns its result.
func (i *Issuer) say(s signature) (Grant, error) {
	i.sayLeftOut(s.of, s.leftOut)
	return s.grant, s.err
}

// signQuietly is sign for an entitlement that may turn out not to count. It logs nothing.
func (i *Issuer) signQuietly(ctx context.Context, e entitlement) signature {
	issued := e.decided
	if issued.IsZero() {
		issued = i.keys.WallTime()
	}
	expires := issued.Add(e.record.Lifetime())
	c := claim.Token{
		Issuer: i.url, Subject: e.subject, Audience: e.audience, Client: e.client, Session: e.family,
		Expires: expires.Unix(), Issued: issued.Add(-backdate).Unix(), ID: claim.NewTokenID(), Scope: e.scope,
	}
	var ofUser json.RawMessage
	if e.user != nil {
		ofUser = e.record.Map.Apply(e.user.Claims)
	}
	if p, _ := profile.Find(e.record.Profile); p.Django {
		c.Type = "access"
		if e.user != nil {
			c.User = e.subject
		}
	}
	payload, left := c.Payload(claim.Layer{Of: "audience", Claims: e.record.Claims}, claim.Layer{Of: "client", Claims: e.claims}, claim.Layer{Of: "user", Claims: ofUser})
	token, err := i.mint(ctx, mintable{use: accessToken, audience: e.audience, record: e.record, alg: e.record.Alg, payload: payload, expires: expires})
	if err != nil {
		return signature{of: e, err: err, leftOut: left}
	}
	g := Grant{
		AccessToken: token, TokenType: "Bearer", ExpiresIn: e.record.TTL, Scope: e.scope,
		Refresh: e.refresh, RefreshFor: e.refreshFor, Alg: e.record.Alg, Graced: e.graced,
	}
	if e.user != nil {
		g.User, g.Session = e.subject, e.family
	}
	return signature{of: e, grant: g, leftOut: left}
}
